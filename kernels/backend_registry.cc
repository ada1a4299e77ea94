#include "kernels/backend_registry.h"

#include <functional>
#include <stdexcept>
#include <string>
#include <utility>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"
#if QUIRE_HAVE_CUDA
#include "kernels/cuda/cuda_backend.h"
#endif

namespace quire {
namespace {

struct Entry {
  BackendInfo info;
  std::function<std::unique_ptr<Backend>(const BackendOptions&)> make;  // empty: absent
};

/// The GPUs of this machine, or why there are none.
std::vector<Entry> gpu_entries() {
#if QUIRE_HAVE_CUDA
  std::vector<Entry> gpus;
  for (const BackendInfo& info : list_cuda_devices()) {
    const auto ordinal = static_cast<int>(gpus.size());
    gpus.push_back({info, [ordinal](const BackendOptions& options) {
                      return make_cuda_backend(ordinal, options);
                    }});
  }
  return gpus;
#else
  return {{{"cuda:0", false, "this binary was built without CUDA"}, nullptr}};
#endif
}

/// The preferred one first. `auto` is the CPU also where there is a GPU, until the results of
/// tests/gpu say that the GPU's are right.
std::vector<Entry> entries() {
  std::vector<Entry> all{
      {{"cpu", true, "oneDNN and SIMD on this machine's CPU"}, make_cpu_backend},
      {{"reference", true, "plain loops"}, make_reference_backend},
  };
  for (Entry& gpu : gpu_entries()) all.push_back(std::move(gpu));
  return all;
}

}  // namespace

std::vector<BackendInfo> list_backends() {
  std::vector<BackendInfo> infos;
  for (const Entry& entry : entries()) infos.push_back(entry.info);
  return infos;
}

std::unique_ptr<Backend> make_backend(std::string_view spec, const BackendOptions& options) {
  // Asking for GPUs starts the driver, which who wants the CPU need not wait for.
  if (spec == "cpu" || spec == "auto") return make_cpu_backend(options);
  std::string known;
  for (const Entry& entry : entries()) {
    const BackendInfo& info = entry.info;
    if (info.available && spec == info.spec) return entry.make(options);
    if (spec == info.spec) {
      throw std::invalid_argument("backend '" + info.spec + "' is not available: " + info.detail);
    }
    known += (known.empty() ? "" : ", ") + info.spec;
  }
  throw std::invalid_argument("unknown backend '" + std::string(spec) + "'; known: auto, " + known);
}

}  // namespace quire
