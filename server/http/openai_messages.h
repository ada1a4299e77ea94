#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "server/http/request_fields.h"
#include "server/request.h"

// `body` is the text that `fields` were read from: members whose order a template prints are taken
// from there. The first complaint goes to `status`, which `fields` has too.

namespace quire {

/// What a chat request shows the model: messages, tools, chat_template_kwargs.
GenerateRequest::ChatInput read_chat_input(const RequestFields& fields, std::string_view body,
                                           Status& status);

/// Its tools, tool_choice and chat_template_kwargs alone.
void read_template_inputs(const RequestFields& fields, std::string_view body,
                          ChatTemplateOptions& options, Status& status);

/// ChatMessage::more_json of the message with these fields. `message_text` gives the text that they
/// were read from and is called only where it is needed.
std::string read_more_members(const RequestFields& fields,
                              const std::function<std::string_view()>& message_text,
                              const Status& status);

}  // namespace quire
