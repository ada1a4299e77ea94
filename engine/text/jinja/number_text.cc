#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "engine/text/jinja/formatting.h"

namespace quire::jinja {
namespace {

constexpr int64_t kMaxPrecision = 100;

std::string digits_in_base(uint64_t magnitude, unsigned base, bool is_upper) {
  const char* const kDigits = is_upper ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string digits;
  do {
    digits.insert(digits.begin(), kDigits[magnitude % base]);
    magnitude /= base;
  } while (magnitude > 0);
  return digits;
}

std::string whole_digits(int64_t number, char type) {
  const auto magnitude =
      number < 0 ? uint64_t{0} - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
  if (type == 'x' || type == 'X') return digits_in_base(magnitude, 16, type == 'X');
  if (type == 'o' || type == 'b') return digits_in_base(magnitude, type == 'o' ? 8 : 2, false);
  return std::to_string(magnitude);
}

std::string_view prefix_of(char type) {
  return type == 'x' ? "0x" : type == 'X' ? "0X" : type == 'o' ? "0o" : type == 'b' ? "0b" : "";
}

std::string float_digits(double magnitude, const Layout& layout) {
  if (layout.precision > kMaxPrecision) throw Error("a number of more than 100 digits");
  if (layout.type == 0) {
    if (layout.precision >= 0) throw Error("a precision needs one of the types e, f, g and %");
    return float_text(magnitude);
  }
  const bool is_percent = layout.type == '%';
  const char pattern[] = {'%', '.', '*', is_percent ? 'f' : layout.type, '\0'};
  char buffer[512];
  std::snprintf(buffer, sizeof(buffer), pattern,
                static_cast<int>(layout.precision < 0 ? 6 : layout.precision),
                is_percent ? magnitude * 100 : magnitude);
  return std::string(buffer) + (is_percent ? "%" : "");
}

void group_thousands(std::string& digits, char separator) {
  const size_t num_whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
  for (size_t pos = num_whole; pos > 3; pos -= 3) digits.insert(pos - 3, 1, separator);
}

}  // namespace

NumberText number_text(const Value& number, const Layout& layout) {
  constexpr std::string_view kWholeTypes = "dxXob";
  constexpr std::string_view kFloatTypes = "eEfFgG%";
  const bool is_whole =
      layout.type == 0 ? !number.is_float() : kWholeTypes.find(layout.type) != kWholeTypes.npos;
  if (is_whole && (number.is_float() || layout.precision >= 0)) {
    throw Error("a format that whole numbers have is given to another");
  }
  if (!is_whole && layout.type != 0 && kFloatTypes.find(layout.type) == kFloatTypes.npos) {
    throw Error(std::string("numbers have no format of the type '") + layout.type + "'");
  }
  NumberText text;
  bool is_negative = false;
  if (is_whole) {
    is_negative = number.as_int() < 0;
    text.digits = whole_digits(number.as_int(), layout.type);
  } else {
    is_negative = std::signbit(number.as_float());
    text.digits = float_digits(std::abs(number.as_float()), layout);
  }
  if (is_negative) {
    text.sign = "-";
  } else if (layout.sign != 0) {
    text.sign = layout.sign;
  }
  if (layout.is_alternate) text.sign += prefix_of(layout.type);
  if (layout.grouping != 0) group_thousands(text.digits, layout.grouping);
  return text;
}

}  // namespace quire::jinja
