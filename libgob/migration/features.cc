#include "libgob/migration/features.h"

#include <sys/auxv.h>
#include <sys/utsname.h>

#include <array>
#include <cstdint>
#include <set>
#include <utility>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace gob::migration {
namespace {

#if defined(__x86_64__)
enum Register : unsigned { kEax, kEbx, kEcx, kEdx };

struct Feature {
  std::uint32_t leaf;
  std::uint32_t subleaf;
  Register where;
  unsigned bit;
  const char* name;
};

// What changes the meaning of an instruction that a program may use. Not what only makes one faster
// (erms, fsrm), nor what is the kernel's.
constexpr Feature kFeatures[] = {
    {1, 0, kEdx, 4, "tsc"},
    {1, 0, kEdx, 8, "cx8"},
    {1, 0, kEdx, 15, "cmov"},
    {1, 0, kEdx, 19, "clflush"},
    {1, 0, kEdx, 23, "mmx"},
    {1, 0, kEdx, 24, "fxsr"},
    {1, 0, kEdx, 25, "sse"},
    {1, 0, kEdx, 26, "sse2"},
    {1, 0, kEcx, 0, "pni"},
    {1, 0, kEcx, 1, "pclmulqdq"},
    {1, 0, kEcx, 9, "ssse3"},
    {1, 0, kEcx, 12, "fma"},
    {1, 0, kEcx, 13, "cx16"},
    {1, 0, kEcx, 19, "sse4_1"},
    {1, 0, kEcx, 20, "sse4_2"},
    {1, 0, kEcx, 22, "movbe"},
    {1, 0, kEcx, 23, "popcnt"},
    {1, 0, kEcx, 25, "aes"},
    {1, 0, kEcx, 27, "xsave"},  // and the kernel lets programs use it
    {1, 0, kEcx, 28, "avx"},
    {1, 0, kEcx, 29, "f16c"},
    {1, 0, kEcx, 30, "rdrand"},
    {7, 0, kEbx, 3, "bmi1"},
    {7, 0, kEbx, 5, "avx2"},
    {7, 0, kEbx, 8, "bmi2"},
    {7, 0, kEbx, 11, "rtm"},
    {7, 0, kEbx, 16, "avx512f"},
    {7, 0, kEbx, 17, "avx512dq"},
    {7, 0, kEbx, 18, "rdseed"},
    {7, 0, kEbx, 19, "adx"},
    {7, 0, kEbx, 21, "avx512ifma"},
    {7, 0, kEbx, 23, "clflushopt"},
    {7, 0, kEbx, 24, "clwb"},
    {7, 0, kEbx, 28, "avx512cd"},
    {7, 0, kEbx, 29, "sha_ni"},
    {7, 0, kEbx, 30, "avx512bw"},
    {7, 0, kEbx, 31, "avx512vl"},
    {7, 0, kEcx, 1, "avx512vbmi"},
    {7, 0, kEcx, 4, "ospke"},
    {7, 0, kEcx, 5, "waitpkg"},
    {7, 0, kEcx, 6, "avx512_vbmi2"},
    {7, 0, kEcx, 8, "gfni"},
    {7, 0, kEcx, 9, "vaes"},
    {7, 0, kEcx, 10, "vpclmulqdq"},
    {7, 0, kEcx, 11, "avx512_vnni"},
    {7, 0, kEcx, 12, "avx512_bitalg"},
    {7, 0, kEcx, 14, "avx512_vpopcntdq"},
    {7, 0, kEcx, 22, "rdpid"},
    {7, 0, kEcx, 27, "movdiri"},
    {7, 0, kEcx, 28, "movdir64b"},
    {7, 0, kEdx, 8, "avx512_vp2intersect"},
    {7, 0, kEdx, 14, "serialize"},
    {7, 0, kEdx, 22, "amx_bf16"},
    {7, 0, kEdx, 23, "avx512_fp16"},
    {7, 0, kEdx, 24, "amx_tile"},
    {7, 0, kEdx, 25, "amx_int8"},
    {7, 1, kEax, 0, "sha512"},
    {7, 1, kEax, 1, "sm3"},
    {7, 1, kEax, 2, "sm4"},
    {7, 1, kEax, 4, "avx_vnni"},
    {7, 1, kEax, 5, "avx512_bf16"},
    {7, 1, kEax, 7, "cmpccxadd"},
    {7, 1, kEax, 21, "amx_fp16"},
    {7, 1, kEax, 23, "avx_ifma"},
    {0xd, 1, kEax, 0, "xsaveopt"},
    {0xd, 1, kEax, 1, "xsavec"},
    {0xd, 1, kEax, 2, "xgetbv1"},
    {0x80000001, 0, kEcx, 0, "lahf_lm"},
    {0x80000001, 0, kEcx, 5, "abm"},
    {0x80000001, 0, kEcx, 6, "sse4a"},
    {0x80000001, 0, kEcx, 7, "misalignsse"},
    {0x80000001, 0, kEcx, 11, "xop"},
    {0x80000001, 0, kEcx, 16, "fma4"},
    {0x80000001, 0, kEcx, 21, "tbm"},
    {0x80000001, 0, kEcx, 29, "mwaitx"},
    {0x80000001, 0, kEdx, 22, "mmxext"},
    {0x80000001, 0, kEdx, 27, "rdtscp"},
    {0x80000001, 0, kEdx, 30, "3dnowext"},
    {0x80000001, 0, kEdx, 31, "3dnow"},
    {0x80000008, 0, kEbx, 0, "clzero"},
};

// By their numbers in XCR0. The first two lie where they always did.
constexpr std::array<const char*, 20> kComponents{
    nullptr,    nullptr, "avx",   "bndregs",  "bndcsr",    "opmask", "zmm_hi256",
    "hi16_zmm", nullptr, "pkru",  nullptr,    nullptr,     nullptr,  nullptr,
    nullptr,    nullptr, nullptr, "xtilecfg", "xtiledata", "apx"};

std::array<std::uint32_t, 4> cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  std::array<std::uint32_t, 4> all{};
  if (__get_cpuid_count(leaf, subleaf, &all[kEax], &all[kEbx], &all[kEcx], &all[kEdx]) == 0)
    return {};
  return all;
}

// Parts of the registers that the kernel lets programs use.
std::uint64_t enabled_components() {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
}

void add_features(Cpu& cpu) {
  for (const Feature& each : kFeatures)
    if ((cpuid(each.leaf, each.subleaf)[each.where] >> each.bit & 1) != 0)
      cpu.add_features(each.name);
  if ((cpuid(1, 0)[kEcx] >> 27 & 1) == 0) return;
  const std::uint64_t enabled = enabled_components();
  for (unsigned i = 2; i < kComponents.size(); ++i)
    if ((enabled >> i & 1) != 0 && kComponents[i] != nullptr)
      cpu.add_features(std::string("xsave:") + kComponents[i] + "@" +
                       std::to_string(cpuid(0xd, i)[kEbx]));
}
#else
void add_features(Cpu& cpu) {
  for (const auto& [type, name] : {std::pair{AT_HWCAP, "hwcap:"}, std::pair{AT_HWCAP2, "hwcap2:"}})
    for (unsigned bit = 0; bit < 64; ++bit)
      if ((::getauxval(type) >> bit & 1) != 0) cpu.add_features(name + std::to_string(bit));
}
#endif

}  // namespace

Cpu cpu_here() {
  Cpu cpu;
  utsname name{};
  if (::uname(&name) == 0) {
    cpu.set_machine(name.machine);
    cpu.set_kernel(name.release);
  }
  add_features(cpu);
  return cpu;
}

std::vector<std::string> missing_features(const Cpu& needs, const Cpu& has) {
  const std::set<std::string> there(has.features().begin(), has.features().end());
  std::vector<std::string> missing;
  for (const std::string& each : needs.features())
    if (!there.contains(each)) missing.push_back(each);
  return missing;
}

Status can_run(const Cpu& needs, const Cpu& has) {
  if (needs.machine().empty()) return {};
  if (needs.machine() != has.machine())
    return make_error(ErrorCode::kUnsupported, "its processor is of another kind (" +
                                                   has.machine() + ") than that of the source (" +
                                                   needs.machine() +
                                                   "): name a node of the same kind");
  const std::vector<std::string> missing = missing_features(needs, has);
  if (missing.empty()) return {};
  std::string names;
  for (const std::string& each : missing) names += (names.empty() ? "" : ", ") + each;
  return make_error(ErrorCode::kUnsupported,
                    "its processor, with Linux " + has.kernel() +
                        ", lacks what that of the source has, "
                        "with Linux " +
                        needs.kernel() + ", and the program may use: " + names +
                        "; name a node that has it, or, if the program does not use it, --any-cpu");
}

}  // namespace gob::migration
