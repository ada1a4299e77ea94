#include "tests/simulation/simulation.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"

namespace quire {

using std::chrono::milliseconds;

Tally& Tally::operator+=(const Tally& other) {
  num_steps += other.num_steps;
  num_tokens += other.num_tokens;
  num_preemptions += other.num_preemptions;
  num_restarts += other.num_restarts;
  num_evictions += other.num_evictions;
  num_cached_tokens += other.num_cached_tokens;
  num_faults += other.num_faults;
  num_completed += other.num_completed;
  num_cancelled += other.num_cancelled;
  num_expired += other.num_expired;
  num_queue_full += other.num_queue_full;
  num_too_long += other.num_too_long;
  num_unhealthy += other.num_unhealthy;
  num_drained += other.num_drained;
  digest = mix(digest, other.digest);
  return *this;
}

Simulation::Simulation(uint64_t seed)
    : random_(seed),
      weather_(make_weather(random_)),
      scenario_(weather_, random_),
      model_(weather_.config),
      gate_(std::make_shared<QueueGate>(weather_.config.max_queued_requests,
                                        weather_.config.max_queued_tokens)),
      engine_(std::make_unique<Engine>(weather_.config, model_, clock_, metrics_)) {
  model_.on_step = [this](const StepPlan& plan) { return during_step(plan); };
}

Tally Simulation::run() {
  while (violations_.empty() && (num_arrived_ < weather_.num_requests || is_anyone_left())) {
    if (num_steps_ == weather_.drain_at_step) {
      engine_->drain_and_stop(clock_.now() + milliseconds(random_.between(0, 300)));
      ++tally_.num_drained;
      check_blocks();
      judge_ends();
      break;
    }
    step();
    if (++num_steps_ > kMaxSteps) blame("no end");
  }
  if (violations_.empty()) check_at_end();
  tally_.num_steps = static_cast<int64_t>(metrics_.steps.value());
  tally_.num_tokens = static_cast<int64_t>(metrics_.generation_tokens.value());
  tally_.num_preemptions = static_cast<int64_t>(metrics_.preemptions.value());
  tally_.num_restarts = model_.num_restarts();
  tally_.num_evictions = static_cast<int64_t>(metrics_.blocks_evicted.value());
  tally_.num_cached_tokens = static_cast<int64_t>(metrics_.prefix_hit_tokens.value());
  tally_.num_faults = static_cast<int64_t>(metrics_.step_failures.value());
  tally_.num_unhealthy = engine_->is_healthy() ? 0 : 1;
  return tally_;
}

void Simulation::step() {
  while (random_.chance(weather_.arrival_chance)) arrive();
  if (random_.chance(weather_.cancel_chance)) cancel_someone();
  const std::vector<Guest*> were_doomed = doomed();
  const bool worked = engine_->step();
  check_after_step(were_doomed);
  if (!worked && is_anyone_left()) blame("the engine is idle and someone waits");
  clock_.advance(milliseconds(random_.between(0, 2)));
}

void Simulation::arrive() {
  if (num_arrived_ >= weather_.num_requests) return;
  ++num_arrived_;
  Order order = scenario_.next_order(clock_.now());
  EngineRequest request = std::move(order.request);
  const auto num_tokens = static_cast<int32_t>(request.prompt.size());
  auto ticket = gate_->enter(random_.between(1, 2 * num_tokens));
  if (!ticket.ok()) {
    ++tally_.num_queue_full;
    return;
  }
  request.queue_ticket = std::move(ticket.value());
  request.queue_ticket->correct(num_tokens);

  auto guest = std::make_unique<Guest>();
  guest->client = std::make_shared<SimulatedClient>(std::move(order));
  guest->client->cancel = [this, guest = guest.get()] {
    guest->was_cancelled = true;
    engine_->cancel(guest->id);
  };
  const Result<SequenceId> id = engine_->submit(std::move(request), guest->client);
  if (id.ok()) {
    if (guest->client->order().is_too_long) blame("too long and not refused");
    guest->id = id.value();
    guests_.push_back(std::move(guest));
    return;
  }
  const StatusCode code = id.status().code();
  const bool is_too_long = guest->client->order().is_too_long;
  tally_.num_too_long += is_too_long;
  const bool may_refuse =
      code == StatusCode::kInvalidArgument
          ? is_too_long
          : code == StatusCode::kUnavailable && (!engine_->is_healthy() || engine_->is_draining());
  if (!may_refuse) blame("refused without cause: " + id.status().message());
}

/// Anyone, at any time: waiting, running, finished long ago, or not even arrived.
void Simulation::cancel_someone() {
  if (guests_.empty() || random_.chance(0.05)) {
    engine_->cancel(SequenceId{1'000'000});
    return;
  }
  Guest& guest = *guests_[random_.next() % guests_.size()];
  guest.was_cancelled = true;
  engine_->cancel(guest.id);
}

/// The world goes on while the device computes.
SimulatedModel::Fault Simulation::during_step(const StepPlan&) {
  clock_.advance(milliseconds(random_.between(0, 5)));
  if (random_.chance(weather_.stall_chance)) clock_.advance(milliseconds(random_.between(1, 500)));
  if (random_.chance(weather_.arrival_chance)) arrive();
  if (random_.chance(weather_.cancel_chance)) cancel_someone();
  if (!random_.chance(weather_.fault_chance)) return SimulatedModel::Fault::kNone;
  return random_.pick(SimulatedModel::Fault::kBeforeWrites, SimulatedModel::Fault::kAfterWrites);
}

/// Who must have its end after the next step, whatever else happens in it.
std::vector<Simulation::Guest*> Simulation::doomed() {
  std::vector<Guest*> found;
  for (const auto& guest : guests_) {
    const auto deadline = guest->client->order().deadline;
    if (guest->was_cancelled || (deadline && *deadline <= clock_.now())) {
      found.push_back(guest.get());
    }
  }
  return found;
}

void Simulation::check_after_step(const std::vector<Guest*>& were_doomed) {
  check_blocks();
  for (const Guest* guest : were_doomed) {
    if (!guest->client->finish()) blame("cancelled or expired and still there");
  }
  const auto num_left = std::ranges::count_if(
      guests_, [](const auto& guest) { return !guest->client->finish().has_value(); });
  if (gate_->num_requests() > num_left) blame("a queue ticket is lost");
  judge_ends();
}

void Simulation::check_blocks() {
  try {
    engine_->check_integrity();
  } catch (const ContractError& error) {
    blame(error.what());
  }
  if (metrics_.blocks_free.value() + metrics_.blocks_cached.value() +
          metrics_.blocks_in_use.value() !=
      weather_.config.num_blocks) {
    blame("the gauges do not add up");
  }
  for (const std::string& violation : model_.violations()) blame(violation);
}

void Simulation::judge_ends() {
  for (const auto& guest : guests_) {
    if (guest->was_judged || !guest->client->finish()) continue;
    guest->was_judged = true;
    guest->client->judge_end({.now = clock_.now(),
                              .was_cancelled = guest->was_cancelled,
                              .was_in_failed_step = model_.failed().contains(guest->id),
                              .is_engine_healthy = engine_->is_healthy(),
                              .is_engine_stopped = engine_->is_draining()});
    const FinishEvent& finish = *guest->client->finish();
    if (model_.num_times_forgotten(guest->id) != 1) blame("the runner did not hear of an end once");
    if (!weather_.config.enable_prefix_cache && finish.usage.cached_tokens > 0) {
      blame("cached tokens without a cache");
    }
    tally_.num_completed += finish.status.ok();
    tally_.num_cancelled += finish.status.code() == StatusCode::kCancelled;
    tally_.num_expired += finish.status.code() == StatusCode::kDeadlineExceeded;
  }
}

void Simulation::check_at_end() {
  for (const auto& guest : guests_) {
    const SimulatedClient& client = *guest->client;
    for (const std::string& violation : client.violations()) {
      blame("sequence " + std::to_string(static_cast<uint64_t>(guest->id)) + ": " + violation);
    }
    if (!client.finish()) {
      blame("a sequence without an end");
      continue;
    }
    const auto code = static_cast<uint64_t>(client.finish()->status.code());
    const auto num_tokens = static_cast<uint64_t>(client.finish()->usage.completion_tokens);
    tally_.digest = mix(tally_.digest, mix(code, num_tokens));
  }
  if (metrics_.blocks_in_use.value() != 0) blame("blocks in use that belong to nobody");
  if (metrics_.sequences_running.value() + metrics_.sequences_waiting.value() != 0) {
    blame("the gauges count sequences that are gone");
  }
  if (gate_->num_requests() != 0 || gate_->num_tokens() != 0) blame("the queue gate is not empty");
}

bool Simulation::is_anyone_left() const {
  return std::ranges::any_of(
      guests_, [](const auto& guest) { return !guest->client->finish().has_value(); });
}

void Simulation::blame(const std::string& what) {
  violations_.push_back("step " + std::to_string(num_steps_) + ": " + what);
}

}  // namespace quire
