// The model of what litmus programs may end with: against what the literature says of them.
#include "tests/litmus/memory_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace gob::litmus {
namespace {

const Program& program(const std::string& name) {
  return *std::ranges::find(catalogue(), name, &Program::name);
}

std::vector<unsigned> apart(std::size_t count) {
  std::vector<unsigned> places(count);
  std::iota(places.begin(), places.end(), 0u);
  return places;
}

bool allows(const std::set<OutcomeCode>& outcomes, const Program& of, const std::string& words) {
  return std::ranges::any_of(outcomes,
                             [&](OutcomeCode code) { return of.describe(code) == words; });
}

struct Forbidden {
  const char* program;
  const char* outcome;
  bool by_tso;  // or by sequential consistency only
};

class Literature : public testing::TestWithParam<Forbidden> {};

TEST_P(Literature, ForbidsTheOutcome) {
  const Program& p = program(GetParam().program);
  const auto pages = apart(p.variables);
  const auto one_node = std::vector<unsigned>(p.threads.size(), 0);
  EXPECT_FALSE(allows(sequential_outcomes(p), p, GetParam().outcome));
  EXPECT_FALSE(allows(allowed_outcomes(p, apart(p.threads.size()), pages), p, GetParam().outcome));
  EXPECT_EQ(allows(allowed_outcomes(p, one_node, pages), p, GetParam().outcome),
            !GetParam().by_tso);
  EXPECT_FALSE(allows(allowed_outcomes(p.fenced(), one_node, pages), p, GetParam().outcome));
}

INSTANTIATE_TEST_SUITE_P(
    All, Literature,
    testing::Values(Forbidden{"SB", "r0=0 r1=0", false}, Forbidden{"MP", "r0=1 r1=0", true},
                    Forbidden{"LB", "r0=1 r1=1", true}, Forbidden{"2+2W", "x=1 y=1", true},
                    Forbidden{"R", "r0=0 y=2", false}, Forbidden{"S", "r0=1 x=2", true},
                    Forbidden{"CoRR", "r0=1 r1=0", true}, Forbidden{"CoWR", "r0=0 x=2", true},
                    Forbidden{"CoWR", "r0=2 x=1", true}, Forbidden{"WRC", "r0=1 r1=1 r2=0", true},
                    Forbidden{"IRIW", "r0=1 r1=0 r2=1 r3=0", true}));

// The claim behind the whole suite: nodes of their own need no fences.
TEST(Model, IsSequentiallyConsistentBetweenNodes) {
  for (const Program& p : catalogue()) {
    const auto nodes = apart(p.threads.size());
    EXPECT_EQ(allowed_outcomes(p, nodes, apart(p.variables)), sequential_outcomes(p)) << p.name;
    EXPECT_EQ(allowed_outcomes(p, nodes, std::vector<unsigned>(p.variables, 0)),
              sequential_outcomes(p))
        << p.name << " in one page";
  }
}

TEST(Model, AllowsEveryOrdinaryOutcome) {
  EXPECT_EQ(sequential_outcomes(program("SB")).size(), 3u);
  EXPECT_EQ(sequential_outcomes(program("MP")).size(), 3u);
  EXPECT_EQ(sequential_outcomes(program("IRIW")).size(), 15u);
  const std::vector<unsigned> one_node{0, 0};
  EXPECT_EQ(allowed_outcomes(program("SB"), one_node, {0, 1}).size(), 4u);
}

// Two threads of SB on one node keep their buffers although a third, elsewhere, uses other pages.
TEST(Model, MixesBothKindsOfThreads) {
  const Program p = parse_program("SB+", "x=1 r0=y | y=1 r1=x | z=1");
  EXPECT_TRUE(allows(allowed_outcomes(p, {0, 0, 1}, {0, 1, 2}), p, "r0=0 r1=0"));
  EXPECT_FALSE(allows(allowed_outcomes(p, {0, 1, 1}, {0, 1, 2}), p, "r0=0 r1=0"));
}

TEST(Programs, AreParsedAndDescribed) {
  const Program p = parse_program("t", "x=1 r1=y | r0=x y=2 | y=1");
  ASSERT_EQ(p.threads.size(), 3u);
  EXPECT_EQ(p.variables, 2u);
  EXPECT_EQ(p.registers, 2u);
  EXPECT_EQ(p.watched(), std::vector<unsigned>{1});
  EXPECT_EQ(p.describe(0b10'01'00), "r0=0 r1=1 y=2");
  EXPECT_EQ(p.fenced().threads[0].size(), 3u);
  for (const char* wrong : {"x", "x=0", "x=4", "w=1", "r=x", "r0=1", "x=1x", "r0=x r1=x r2=x"})
    EXPECT_THROW(static_cast<void>(parse_program("wrong", wrong)), std::invalid_argument) << wrong;
}

}  // namespace
}  // namespace gob::litmus
