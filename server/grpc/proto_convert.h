#pragma once

#include "quire/v1/chat.pb.h"
#include "quire/v1/completion.pb.h"
#include "quire/v1/generation.pb.h"
#include "server/request.h"

namespace quire {

// Between protobuf and the service's own types. Absent fields get the defaults of the JSON twin.

/// kInvalidArgument if what comes as JSON text is not, or would be refused over HTTP.
Result<GenerateRequest> from_proto(v1::ChatRequest& proto);
/// kInvalidArgument if both texts and token ids are given.
Result<GenerateRequest> from_proto(v1::CompletionRequest& proto);

v1::GenerationEvent to_proto(const PrefillProgressEvent& event);
v1::GenerationEvent to_proto(const DeltaEvent& event);
v1::GenerationEvent to_proto(const ChoiceFinishedEvent& event);
v1::GenerationEvent to_proto(const Usage& usage);

}  // namespace quire
