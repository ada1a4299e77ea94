#include "server/http/http_server.h"

#include <spdlog/spdlog.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <condition_variable>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "server/http/http_session.h"

namespace quire {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kAcceptPause = std::chrono::milliseconds(100);  // out of file descriptors
constexpr auto kCloseGrace = std::chrono::seconds(30);

tcp::endpoint resolve(asio::io_context& io, const HttpServerConfig& config) {
  tcp::resolver resolver(io);
  const auto found =
      resolver.resolve(config.host, std::to_string(config.port), tcp::resolver::passive);
  return found.begin()->endpoint();
}

}  // namespace

struct HttpServer::Impl {
  Impl(const HttpServerConfig& server_config, InferenceService& service, const Authenticator& auth,
       const Health& health, const PrometheusExporter& exporter, HttpMetrics& metrics)
      : config(server_config),
        context{
            .config = config,
            .routes = {service, health, exporter, JsonLimits{.max_depth = config.max_json_depth}},
            .auth = auth,
            .metrics = metrics},
        strand(asio::make_strand(io)),
        acceptor(strand),
        accept_pause(strand) {
    try {
      const tcp::endpoint endpoint = resolve(io, config);
      acceptor.open(endpoint.protocol());
      acceptor.set_option(tcp::acceptor::reuse_address(true));
      acceptor.bind(endpoint);
      acceptor.listen();
    } catch (const boost::system::system_error& error) {
      throw std::runtime_error("cannot listen for HTTP on " + config.host + ":" +
                               std::to_string(config.port) + ": " + error.code().message());
    }
  }

  void accept() {
    acceptor.async_accept(asio::make_strand(io),
                          [this](error_code error, HttpSession::Socket socket) {
                            if (!acceptor.is_open()) return;
                            if (error) {
                              spdlog::warn("accepting a connection failed: {}", error.message());
                              accept_pause.expires_after(kAcceptPause);
                              return accept_pause.async_wait([this](error_code) {
                                if (acceptor.is_open()) accept();
                              });
                            }
                            add_session(std::move(socket));
                            accept();
                          });
  }

  /// No session may be destroyed while the mutex is held: its end takes it.
  void add_session(HttpSession::Socket socket) {
    std::shared_ptr<HttpSession> session;
    {
      const std::lock_guard lock(mutex);
      if (sessions.size() >= static_cast<size_t>(config.max_connections)) return;  // closes it
      const uint64_t number = next_session++;
      session = std::make_shared<HttpSession>(std::move(socket), context, [this, number] {
        const std::lock_guard inner_lock(mutex);
        sessions.erase(number);
        session_gone.notify_all();
      });
      sessions[number] = session;
    }
    session->start();
  }

  std::vector<std::shared_ptr<HttpSession>> live_sessions() {
    std::vector<std::shared_ptr<HttpSession>> live;
    const std::lock_guard lock(mutex);
    for (const auto& [number, weak] : sessions) {
      if (auto session = weak.lock()) live.push_back(std::move(session));
    }
    return live;
  }

  bool wait_until_empty(Clock::TimePoint deadline) {
    std::unique_lock lock(mutex);
    return session_gone.wait_until(lock, deadline, [this] { return sessions.empty(); });
  }

  const HttpServerConfig config;
  asio::io_context io;
  SessionContext context;
  asio::strand<asio::io_context::executor_type> strand;
  tcp::acceptor acceptor;
  asio::steady_timer accept_pause;
  std::mutex mutex;
  std::condition_variable session_gone;
  std::map<uint64_t, std::weak_ptr<HttpSession>> sessions;
  uint64_t next_session = 0;
  std::vector<std::jthread> threads;
};

HttpServer::HttpServer(const HttpServerConfig& config, InferenceService& service,
                       const Authenticator& auth, const Health& health,
                       const PrometheusExporter& exporter, HttpMetrics& metrics)
    : impl_(std::make_unique<Impl>(config, service, auth, health, exporter, metrics)) {}

HttpServer::~HttpServer() { stop(std::chrono::steady_clock::now()); }

void HttpServer::start() {
  impl_->accept();
  for (int i = 0; i < impl_->config.num_threads; ++i) {
    impl_->threads.emplace_back([this] { impl_->io.run(); });
  }
}

uint16_t HttpServer::port() const { return impl_->acceptor.local_endpoint().port(); }

void HttpServer::stop(Clock::TimePoint deadline) {
  if (impl_->threads.empty()) return;
  impl_->context.is_stopping = true;
  asio::post(impl_->strand, [this] {
    error_code ignored;
    impl_->acceptor.close(ignored);
    impl_->accept_pause.cancel();
  });
  for (const auto& session : impl_->live_sessions()) session->close_when_idle();
  if (!impl_->wait_until_empty(deadline)) {
    for (const auto& session : impl_->live_sessions()) session->close_now();
    impl_->wait_until_empty(std::chrono::steady_clock::now() + kCloseGrace);
  }
  impl_->io.stop();
  impl_->threads.clear();
}

}  // namespace quire
