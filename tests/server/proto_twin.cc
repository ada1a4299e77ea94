#include "tests/server/proto_twin.h"

#include <google/protobuf/text_format.h>

#include "server/grpc/proto_convert.h"

namespace quire {
namespace {

using google::protobuf::TextFormat;

std::string one_line(const google::protobuf::Message& message) {
  TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  std::string text;
  printer.PrintToString(message, &text);
  while (text.ends_with(' ')) text.pop_back();
  return text;
}

Status unreadable() { return Status(StatusCode::kInternal, "the test's proto cannot be read"); }

}  // namespace

Result<GenerateRequest> chat_from_proto(const std::string& proto_text) {
  v1::ChatRequest proto;
  if (!TextFormat::ParseFromString(proto_text, &proto)) return unreadable();
  return from_proto(proto);
}

Result<GenerateRequest> completion_from_proto(const std::string& proto_text) {
  v1::CompletionRequest proto;
  if (!TextFormat::ParseFromString(proto_text, &proto)) return unreadable();
  return from_proto(proto);
}

std::string proto_text_of(const PrefillProgressEvent& event) { return one_line(to_proto(event)); }
std::string proto_text_of(const DeltaEvent& event) { return one_line(to_proto(event)); }
std::string proto_text_of(const ChoiceFinishedEvent& event) { return one_line(to_proto(event)); }
std::string proto_text_of(const Usage& usage) { return one_line(to_proto(usage)); }

}  // namespace quire
