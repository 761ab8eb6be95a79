// The wire codec's cost for one page message.
#include <benchmark/benchmark.h>

#include <array>

#include "gobbench/micro.h"
#include "libgob/wire/page_header.h"

namespace gob::bench {
namespace {

Message example() {
  Message message;
  message.type = MessageType::kPage;
  message.payload = Payload::kCopy;
  message.confirm = true;
  message.free_frames = 1000;
  message.epoch = Epoch{3};
  message.pages = {ContainerId{7}, 42, 0xff00};
  return message;
}

void encode(benchmark::State& state) {
  const Message message = example();
  std::array<std::byte, wire::kPageHeaderBytes> header{};
  for (auto _ : state) {
    wire::encode(message, header);
    benchmark::DoNotOptimize(header);
  }
}

void decode(benchmark::State& state) {
  std::array<std::byte, wire::kPageHeaderBytes> header{};
  wire::encode(example(), header);
  for (auto _ : state) {
    benchmark::DoNotOptimize(header);
    const Result<Message> message = wire::decode(header);
    if (!message) state.SkipWithError(message.error().message().c_str());
    benchmark::DoNotOptimize(message);
  }
}

}  // namespace

void register_codec_benchmarks() {
  benchmark::RegisterBenchmark("codec: encode a header", encode)->UseRealTime();
  benchmark::RegisterBenchmark("codec: decode a header", decode)->UseRealTime();
}

}  // namespace gob::bench
