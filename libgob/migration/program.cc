#include "libgob/migration/program.h"

#include <sys/mman.h>
#include <unistd.h>

#include "libgob/base/unique_fd.h"
#include "libgob/migration/criu.h"

namespace gob::migration {

Result<std::string> run_program(const std::vector<std::string>& argv) {
  std::string name;
  for (const std::string& word : argv) name += (name.empty() ? "" : " ") + word;
  const UniqueFd output(::memfd_create("output", MFD_CLOEXEC));
  if (!output) return system_error("running " + name);
  auto child = Child::start(argv, {}, output.get());
  if (!child) return child.error();
  const auto status = child->wait(std::chrono::seconds(10));
  if (!status)
    return make_error(ErrorCode::kTimedOut, "\"" + name + "\" did not end within 10 s, and was killed");
  const off_t size = ::lseek(output.get(), 0, SEEK_END);
  std::string text(static_cast<std::size_t>(std::max<off_t>(size, 0)), '\0');
  const ssize_t got = ::pread(output.get(), text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  if (*status == 0) return text;
  while (text.ends_with('\n')) text.pop_back();
  return make_error(ErrorCode::kSystem,
                    "\"" + name + "\" ended with status " + std::to_string(*status) +
                        (*status == 127 ? ": is it installed?" : ": " + text));
}

}  // namespace gob::migration
