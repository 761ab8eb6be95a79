// PageTable against std::unordered_map under seeded random work, its memory, and its equality.
#include "libgob/base/page_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

namespace gob {
namespace {

struct Value {
  std::uint32_t number = 0;
  friend bool operator==(const Value&, const Value&) = default;
};
using Table = PageTable<Value>;
using Reference = std::unordered_map<PageKey, std::uint32_t>;

PageKey key(std::uint32_t container, std::uint64_t page) {
  return key_of({ContainerId{container}, PageIndex{page}});
}

void expect_same(const Table& table, const Reference& reference) {
  ASSERT_EQ(table.size(), reference.size());
  std::size_t seen = 0;
  table.for_each([&](PageKey k, const Value& value) {
    ++seen;
    const auto found = reference.find(k);
    ASSERT_NE(found, reference.end()) << "an entry that was never inserted: " << k;
    EXPECT_EQ(value.number, found->second);
  });
  EXPECT_EQ(seen, reference.size());
  std::map<ContainerId, std::vector<PageKey>> of_containers;
  for (const auto& [k, number] : reference) of_containers[page_of(k).container].push_back(k);
  for (auto& [id, keys] : of_containers) {
    std::vector<PageKey> found = table.keys_of(id);
    std::ranges::sort(found);
    std::ranges::sort(keys);
    EXPECT_EQ(found, keys) << "of container " << id.value();
  }
  for (const auto& [k, number] : reference) {
    const Value* value = table.find(k);
    ASSERT_NE(value, nullptr) << "an entry went missing: " << k;
    EXPECT_EQ(value->number, number);
  }
}

// How the keys of a test lie: dense runs probe into each other, sparse ones rarely meet.
struct Shape {
  std::string name;
  std::uint32_t containers;
  std::uint64_t pages;
};

class PageTableUnder : public testing::TestWithParam<Shape> {};

TEST_P(PageTableUnder, RandomWorkAgreesWithAReferenceMap) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    Table table;
    Reference reference;
    for (int step = 0; step < 20000; ++step) {
      const PageKey k = key(1 + static_cast<std::uint32_t>(random() % GetParam().containers),
                            random() % GetParam().pages);
      // Long phases of growth and of shrinking, so that deletion meets full clusters of slots.
      const bool growing = (step / 2500) % 2 == 0;
      if (random() % 100 < (growing ? 75u : 25u)) {
        const auto number = static_cast<std::uint32_t>(random());
        table[k].number = number;
        reference[k] = number;
      } else {
        EXPECT_EQ(table.erase(k), reference.erase(k) == 1);
      }
      if (step % 2000 == 0) expect_same(table, reference);
      if (HasFatalFailure()) return;
    }
    expect_same(table, reference);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, PageTableUnder,
                         testing::Values(Shape{"Dense", 1, 600}, Shape{"ManyContainers", 200, 12},
                                         Shape{"Sparse", 3, kMaxPages}),
                         [](const auto& shape) { return shape.param.name; });

TEST(PageTable, FindsNothingBeforeTheFirstInsertion) {
  const Table table;
  EXPECT_EQ(table.find(key(1, 0)), nullptr);
  EXPECT_EQ(table.size(), 0u);
  EXPECT_EQ(table.memory_bytes(), 0u);
}

TEST(PageTable, ErasingWhatIsNotThereChangesNothing) {
  Table table;
  EXPECT_FALSE(table.erase(key(1, 0)));
  table[key(1, 1)].number = 7;
  EXPECT_FALSE(table.erase(key(1, 0)));
  EXPECT_EQ(table.size(), 1u);
}

TEST(PageTable, InsertsADefaultValueOnce) {
  Table table;
  EXPECT_EQ(table[key(1, 5)].number, 0u);
  table[key(1, 5)].number = 3;
  EXPECT_EQ(table[key(1, 5)].number, 3u);
  EXPECT_EQ(table.size(), 1u);
}

TEST(PageTable, TakesTheLargestKey) {
  Table table;
  const PageKey largest = key(kMaxContainerId - 1, kMaxPages - 1);
  table[largest].number = 9;
  ASSERT_NE(table.find(largest), nullptr);
  EXPECT_EQ(table.find(largest)->number, 9u);
  EXPECT_EQ(page_of(largest).container.value(), kMaxContainerId - 1);
  EXPECT_EQ(page_of(largest).page.value(), kMaxPages - 1);
}

TEST(PageTable, ClearGivesTheMemoryBack) {
  Table table;
  for (std::uint64_t page = 0; page < 1000; ++page) table[key(1, page)].number = 1;
  table.clear();
  EXPECT_EQ(table.size(), 0u);
  EXPECT_EQ(table.memory_bytes(), 0u);
  table[key(1, 1)].number = 2;
  EXPECT_EQ(table.size(), 1u);
}

// The promise of the architecture: a directory entry costs at most 32 bytes, however many there
// are.
TEST(PageTable, NeverTakesMoreThan32BytesAnEntryFromAThousandOn) {
  struct Word {
    std::uint64_t bits = 0;
  };
  static_assert(sizeof(PageTable<Word>::Slot) == 16);
  PageTable<Word> table;
  for (std::uint64_t page = 0; page < 300000; ++page) {
    table[key(1, page * 3)].bits = page;
    if (table.size() < 1000) continue;
    ASSERT_LE(table.memory_bytes(), 32 * table.size()) << "at " << table.size() << " entries";
  }
}

// Pages that lie in one column of the table's rows do not fill it before the table is full.
TEST(PageTable, TakesEveryEighthPageInAsLittleMemory) {
  PageTable<std::uint64_t> table;
  for (std::uint64_t page = 0; page < 50000; ++page) {
    table[key(1, page * 8)] = page;
    if (table.size() < 1000) continue;
    ASSERT_LE(table.memory_bytes(), 32 * table.size()) << "at " << table.size() << " entries";
  }
  for (std::uint64_t page = 0; page < 50000; ++page) {
    const std::uint64_t* const found = table.find(key(1, page * 8));
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(*found, page);
    EXPECT_EQ(table.find(key(1, page * 8 + 1)), nullptr);
  }
}

TEST(PageTable, EqualityDoesNotDependOnTheOrderOfInsertion) {
  Table up;
  Table down;
  Table detour;
  for (std::uint64_t i = 0; i < 500; ++i) {
    up[key(1, i)].number = static_cast<std::uint32_t>(i);
    down[key(1, 499 - i)].number = static_cast<std::uint32_t>(499 - i);
  }
  for (std::uint64_t i = 0; i < 5000; ++i) detour[key(1, i * 7)].number = 1;
  for (std::uint64_t i = 0; i < 5000; ++i) detour.erase(key(1, i * 7));
  for (std::uint64_t i = 0; i < 500; ++i) detour[key(1, i)].number = static_cast<std::uint32_t>(i);
  EXPECT_TRUE(up == down);
  EXPECT_TRUE(up == detour);
  EXPECT_TRUE(detour == up);
}

TEST(PageTable, EqualitySeesOneDifferentValueKeyOrSize) {
  Table a;
  for (std::uint64_t i = 0; i < 100; ++i) a[key(1, i)].number = 1;
  Table other_value = a;
  other_value[key(1, 50)].number = 2;
  EXPECT_FALSE(a == other_value);
  Table other_key = a;
  other_key.erase(key(1, 50));
  EXPECT_FALSE(a == other_key);
  other_key[key(2, 50)].number = 1;
  EXPECT_FALSE(a == other_key);
}

TEST(PageTable, TheKeysOfAContainerAreFoundWhereverTheyLie) {
  Table table;
  EXPECT_TRUE(table.keys_of(ContainerId{1}).empty());
  table[key(1, 3)];
  table[key(2, 0)];
  table[key(2, kMaxPages - 1)];
  table[key(kMaxContainerId - 1, kMaxPages - 1)];
  EXPECT_THAT(table.keys_of(ContainerId{1}), testing::ElementsAre(key(1, 3)));
  EXPECT_THAT(table.keys_of(ContainerId{2}),
              testing::UnorderedElementsAre(key(2, 0), key(2, kMaxPages - 1)));
  EXPECT_THAT(table.keys_of(ContainerId{kMaxContainerId - 1}),
              testing::ElementsAre(key(kMaxContainerId - 1, kMaxPages - 1)));
  const Table copy = table;
  table.erase(key(1, 3));
  EXPECT_TRUE(table.keys_of(ContainerId{1}).empty());
  EXPECT_EQ(copy.keys_of(ContainerId{1}).size(), 1u);
  table.clear();
  EXPECT_TRUE(table.keys_of(ContainerId{2}).empty());
}

TEST(PageTable, SlotsShowEveryEntryOnceToAClockHand) {
  Table table;
  for (std::uint64_t i = 0; i < 300; ++i) table[key(1, i)].number = static_cast<std::uint32_t>(i);
  std::vector<bool> seen(300, false);
  for (std::size_t i = 0; i < table.slot_count(); ++i) {
    const auto& slot = table.slot(i);
    if (slot.key == Table::kEmpty) continue;
    const auto page = static_cast<std::size_t>(page_of(slot.key).page.value());
    ASSERT_LT(page, seen.size());
    EXPECT_FALSE(seen[page]);
    seen[page] = true;
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), 300);
}

}  // namespace
}  // namespace gob
