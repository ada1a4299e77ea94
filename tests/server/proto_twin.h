#pragma once

#include <string>

#include "server/request.h"

// gRPC's requests and events as protobuf text, so that no test includes a protobuf header.

namespace quire {

Result<GenerateRequest> chat_from_proto(const std::string& proto_text);
Result<GenerateRequest> completion_from_proto(const std::string& proto_text);

/// The event that a gRPC client sees, on one line.
std::string proto_text_of(const PrefillProgressEvent& event);
std::string proto_text_of(const DeltaEvent& event);
std::string proto_text_of(const ChoiceFinishedEvent& event);
std::string proto_text_of(const Usage& usage);

}  // namespace quire
