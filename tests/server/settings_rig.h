#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "server/server_config.h"

// A command line, an environment and files for the tests of the settings.

namespace quire {

/// A file that disappears with this object.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content, const std::string& suffix = ".toml")
      : path_(std::filesystem::temp_directory_path() /
              ("quire_settings_" + std::to_string(reinterpret_cast<uintptr_t>(this)) + suffix)) {
    std::ofstream(path_, std::ios::binary) << content;
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

/// Environment variables for the life of this object.
class Environment {
 public:
  explicit Environment(std::vector<std::pair<std::string, std::string>> variables)
      : variables_(std::move(variables)) {
    for (const auto& [name, value] : variables_) setenv(name.c_str(), value.c_str(), 1);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() {
    for (const auto& [name, value] : variables_) unsetenv(name.c_str());
  }

 private:
  std::vector<std::pair<std::string, std::string>> variables_;
};

inline ServerConfig settings(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv = {"quire"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  return parse_command_line(static_cast<int>(argv.size()), argv.data());
}

/// What the user is told, "exit <code>: <text>"; "accepted" if nothing is wrong.
inline std::string complaint_about(const std::vector<std::string>& arguments) {
  try {
    settings(arguments);
  } catch (const CommandLineExit& exit) {
    return "exit " + std::to_string(exit.exit_code) + ": " + exit.text;
  } catch (const std::exception& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace quire
