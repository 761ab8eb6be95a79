#include "tests/history/trace_file.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

namespace gob::history {
namespace {

struct File {
  TraceHeader header{};
  std::vector<TraceRecord> records;
};

Result<File> read_file(const std::string& path) {
  const auto bad = [&](const std::string& why) {
    return make_error(ErrorCode::kInvalidArgument, "cannot use the trace " + path + ": " + why);
  };
  std::ifstream stream(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
  File file;
  if (bytes.size() < kTraceHeaderBytes) return bad("it has no header");
  std::memcpy(&file.header, bytes.data(), sizeof file.header);
  if (std::memcmp(file.header.magic, kTraceMagic, sizeof kTraceMagic) != 0)
    return bad("it does not begin as a trace does");
  if (file.header.version != kTraceVersion || file.header.record_bytes != sizeof(TraceRecord))
    return bad("it is of version " + std::to_string(file.header.version));
  if (file.header.end == TraceEnd::kCut) return bad("its daemon had no room to record everything");
  TraceRecord record;
  for (std::size_t at = kTraceHeaderBytes; at + sizeof record <= bytes.size();
       at += sizeof record) {
    std::memcpy(&record, bytes.data() + at, sizeof record);
    if (record.kind == TraceKind::kEnd) break;
    file.records.push_back(record);
  }
  return file;
}

}  // namespace

Result<std::vector<NodeTrace>> read_traces(const std::string& directory) {
  std::map<std::pair<unsigned, std::uint32_t>, NodeTrace> lives;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    if (entry.path().extension() != ".gobtrace") continue;
    const Result<File> file = read_file(entry.path());
    if (!file) return file.error();
    NodeTrace& life = lives[{file->header.node, file->header.pid}];
    life.node = file->header.node;
    life.pid = file->header.pid;
    life.killed = life.killed || file->header.end == TraceEnd::kOpen;
    life.records.insert(life.records.end(), file->records.begin(), file->records.end());
  }
  if (error)
    return make_error(ErrorCode::kNotFound, "cannot read the directory " + directory,
                      error.value());
  if (lives.empty())
    return make_error(ErrorCode::kNotFound, "there is no trace in " + directory +
                                                "; daemons write them when trace_dir is set");
  std::vector<NodeTrace> traces;
  for (auto& [key, life] : lives) {
    std::ranges::stable_sort(life.records, {}, &TraceRecord::time_ns);
    traces.push_back(std::move(life));
  }
  return traces;
}

}  // namespace gob::history
