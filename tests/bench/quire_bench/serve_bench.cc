#include "tests/bench/quire_bench/serve_bench.h"

#include <atomic>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <future>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <stdexcept>
#include <string_view>
#include <thread>

namespace quire::bench {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

/// A server-sent event with the time at which its last byte was read.
struct Event {
  Clock::time_point time;
  std::string data;
};

struct Answer {
  unsigned status = 0;
  Clock::time_point asked_at;
  std::vector<Event> events;
};

std::string random_prompt(int32_t num_words, uint32_t seed) {
  std::mt19937 random(seed);
  std::string prompt;
  for (int32_t word = 0; word < num_words; ++word) {
    if (word > 0) prompt += ' ';
    for (uint32_t letters = 2 + random() % 5; letters > 0; --letters) {
      prompt += static_cast<char>('a' + random() % 26);
    }
  }
  return prompt;
}

std::vector<int32_t> random_tokens(int32_t num_tokens, uint32_t seed) {
  constexpr uint32_t kFirstId = 256, kNumIds = 2048;  // in the vocabulary of every model
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(num_tokens));
  for (int32_t& token : tokens) token = static_cast<int32_t>(kFirstId + random() % kNumIds);
  return tokens;
}

using Request = http::request<http::string_body>;

Request make_request(const ServeOptions& options, const Json& prompt, int32_t max_tokens) {
  Json body = {{"prompt", prompt}, {"max_tokens", max_tokens},
               {"temperature", 0}, {"ignore_eos", true},
               {"stream", true},   {"stream_options", {{"include_usage", true}}}};
  if (!options.model.empty()) body["model"] = options.model;
  Request request(http::verb::post, "/v1/completions", 11);
  request.set(http::field::host, options.host);
  request.set(http::field::content_type, "application/json");
  request.set(http::field::connection, "close");
  if (!options.api_key.empty()) {
    request.set(http::field::authorization, "Bearer " + options.api_key);
  }
  request.body() = body.dump();
  request.prepare_payload();
  return request;
}

/// Moves the complete events of `text`, from `parsed` on, to `events`.
void take_events(const std::string& text, size_t& parsed, std::vector<Event>& events) {
  const auto now = Clock::now();
  for (size_t end; (end = text.find("\n\n", parsed)) != std::string::npos; parsed = end + 2) {
    const std::string_view event = std::string_view(text).substr(parsed, end - parsed);
    if (event.starts_with("data: ")) events.push_back({now, std::string(event.substr(6))});
  }
}

Answer ask(const ServeOptions& options, const Request& request) {
  asio::io_context context;
  asio::ip::tcp::resolver resolver(context);
  asio::ip::tcp::socket socket(context);
  asio::connect(socket, resolver.resolve(options.host, std::to_string(options.port)));
  socket.set_option(asio::ip::tcp::no_delay(true));
  Answer answer;
  answer.asked_at = Clock::now();
  http::write(socket, request);
  boost::beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(boost::none);
  http::read_header(socket, buffer, parser);
  answer.status = parser.get().result_int();
  size_t parsed = 0;
  while (!parser.is_done()) {
    http::read_some(socket, buffer, parser);
    take_events(parser.get().body(), parsed, answer.events);
  }
  if (answer.status != 200) {
    throw std::runtime_error("status " + std::to_string(answer.status) + ": " +
                             parser.get().body().substr(0, 200));
  }
  return answer;
}

Answer ask_words(const ServeOptions& options, uint32_t seed) {
  return ask(options,
             make_request(options, random_prompt(options.prompt_words, seed), options.max_tokens));
}

/// Adds what one answer shows to `m`. Events are parsed only now: parsing costs the client time
/// that the next event's arrival would be charged for. Times of events behind `end` do not count.
void add_answer(const Answer& answer, Clock::time_point end, ServeMeasurement& m) {
  Clock::time_point last = answer.asked_at;
  bool is_first = true, is_done = false;
  for (const Event& event : answer.events) {
    if (event.data == "[DONE]") {
      is_done = true;
      continue;
    }
    const Json json = Json::parse(event.data);
    if (json.contains("error")) throw std::runtime_error(json.at("error").dump());
    if (json.contains("usage") && json.at("usage").is_object()) {
      m.prompt_tokens += json.at("usage").value("prompt_tokens", int64_t{0});
      m.completion_tokens += json.at("usage").value("completion_tokens", int64_t{0});
    }
    const Json& choices = json.at("choices");
    if (choices.empty() || choices.at(0).value("text", "").empty()) continue;
    const double seconds = std::chrono::duration<double>(event.time - last).count();
    if (event.time <= end) {
      (is_first ? m.first_token_seconds : m.gap_seconds).push_back(seconds);
    }
    is_first = false;
    last = event.time;
  }
  if (!is_done) throw std::runtime_error("the stream ended without [DONE]");
}

/// Tells when the long prompt has been read; without one, all of time counts.
struct Background {
  std::atomic<bool> is_read{false};
  Clock::time_point read_at = Clock::time_point::max();
  double seconds = 0;
  std::string failure;
};

void run_background(const ServeOptions& options, const Request& request, Background& background) {
  try {
    const auto asked_at = Clock::now();
    ask(options, request);
    background.read_at = Clock::now();
    background.seconds = std::chrono::duration<double>(background.read_at - asked_at).count();
  } catch (const std::exception& error) {
    background.failure = std::string("background: ") + error.what();
  }
  background.is_read = true;
}

std::vector<Answer> run_stream(const ServeOptions& options, int32_t stream,
                               const Background& background, ServeMeasurement& m) {
  std::vector<Answer> answers;
  const bool has_background = options.background_prefill > 0;
  const auto goes_on = [&](int32_t i) {
    return has_background ? !background.is_read : i < options.requests_per_stream;
  };
  for (int32_t i = 0; goes_on(i); ++i) {
    const auto number = static_cast<uint32_t>((m.num_streams * 4096 + stream) * 4096 + i + 1);
    ++m.num_requests;
    try {
      answers.push_back(ask_words(options, options.seed + number));
    } catch (const std::exception& error) {
      if (m.num_failed++ == 0) m.failure = error.what();
    }
  }
  return answers;
}

void add_answers(const std::vector<Answer>& answers, Clock::time_point end, ServeMeasurement& m) {
  for (const Answer& answer : answers) {
    try {
      add_answer(answer, end, m);
    } catch (const std::exception& error) {
      if (m.num_failed++ == 0) m.failure = error.what();
    }
  }
}

void merge(const ServeMeasurement& part, ServeMeasurement& m) {
  m.num_requests += part.num_requests;
  m.num_failed += part.num_failed;
  if (m.failure.empty()) m.failure = part.failure;
  m.prompt_tokens += part.prompt_tokens;
  m.completion_tokens += part.completion_tokens;
  m.first_token_seconds.insert(m.first_token_seconds.end(), part.first_token_seconds.begin(),
                               part.first_token_seconds.end());
  m.gap_seconds.insert(m.gap_seconds.end(), part.gap_seconds.begin(), part.gap_seconds.end());
}

ServeMeasurement measure(const ServeOptions& options, int32_t num_streams) {
  ServeMeasurement m;
  m.num_streams = num_streams;
  std::vector<ServeMeasurement> parts(static_cast<size_t>(num_streams), m);
  std::vector<std::future<std::vector<Answer>>> streams;
  Background background;
  std::optional<Request> long_request;
  if (options.background_prefill > 0) {
    const uint32_t seed = options.seed + static_cast<uint32_t>(num_streams);
    long_request = make_request(options, random_tokens(options.background_prefill, seed), 1);
  }
  const auto begin = Clock::now();
  std::thread reader;
  if (long_request) {
    reader = std::thread([&] { run_background(options, *long_request, background); });
  }
  for (int32_t stream = 0; stream < num_streams; ++stream) {
    ServeMeasurement& part = parts[static_cast<size_t>(stream)];
    streams.push_back(std::async(std::launch::async, [&options, &background, &part, stream] {
      return run_stream(options, stream, background, part);
    }));
  }
  std::vector<std::vector<Answer>> answers;
  for (auto& stream : streams) answers.push_back(stream.get());
  m.wall_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  if (reader.joinable()) reader.join();
  m.failure = background.failure;
  m.background_seconds = background.seconds;
  for (size_t stream = 0; stream < parts.size(); ++stream) {
    add_answers(answers[stream], background.read_at, parts[stream]);
    merge(parts[stream], m);
  }
  return m;
}

}  // namespace

std::vector<ServeMeasurement> run_serve(const ServeOptions& options) {
  ask_words(options, options.seed);  // unmeasured; also tells at once whether anybody listens
  std::vector<ServeMeasurement> measurements;
  for (const int32_t num_streams : options.num_streams) {
    measurements.push_back(measure(options, num_streams));
  }
  return measurements;
}

}  // namespace quire::bench
