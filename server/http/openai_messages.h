#pragma once

#include <string_view>

#include "server/http/request_fields.h"
#include "server/request.h"

namespace quire {

/// What a chat request shows the model: messages, tools, chat_template_kwargs. `body` is the text
/// that `fields` were read from: members whose order a template prints are taken from there. The
/// first complaint goes to `status`, which `fields` has too.
GenerateRequest::ChatInput read_chat_input(const RequestFields& fields, std::string_view body,
                                           Status& status);

}  // namespace quire
