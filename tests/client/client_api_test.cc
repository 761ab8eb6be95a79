// What gob.h promises, against a gobd of one node.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "libgob/gob.h"
#include "libgob/gob.hpp"
#include "tests/client/fake_gobd.h"

namespace gob::test {
namespace {

using ::testing::HasSubstr;

class ClientApiTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(gob_connect(gobd_.socket().c_str(), &connection_), 0) << gob_last_error();
  }
  void TearDown() override { EXPECT_EQ(gob_disconnect(connection_), 0); }

  gob_container* create_and_open(const char* name, std::uint64_t bytes, int access) {
    EXPECT_EQ(gob_create(connection_, name, bytes, 0600), 0) << gob_last_error();
    gob_container* container = nullptr;
    EXPECT_EQ(gob_open(connection_, name, access, &container), 0) << gob_last_error();
    return container;
  }
  char* map(gob_container* container, std::uint64_t offset, std::size_t length, int access) {
    void* address = nullptr;
    EXPECT_EQ(gob_map(container, offset, length, access, &address), 0) << gob_last_error();
    return static_cast<char*>(address);
  }

  FakeGobd gobd_;
  gob_connection* connection_ = nullptr;
};

constexpr int kReadWrite = GOB_READ | GOB_WRITE;

TEST(ClientConnect, WithoutAGobdTheErrorSaysWhatToDo) {
  gob_connection* connection = nullptr;
  EXPECT_EQ(gob_connect("/nonexistent/gobd.sock", &connection), -ENOENT);
  EXPECT_EQ(connection, nullptr);
  EXPECT_THAT(gob_last_error(), HasSubstr("/nonexistent/gobd.sock"));
  EXPECT_THAT(gob_last_error(), HasSubstr("gobctl cluster up"));
  EXPECT_STREQ(gob_strerror(-ENOENT), gob_strerror(ENOENT));
  EXPECT_EQ(gob_connect("/nonexistent/gobd.sock", nullptr), -EINVAL);
  EXPECT_EQ(gob_disconnect(nullptr), 0);
}

TEST(ClientConnect, TheEnvironmentNamesTheSocket) {
  const FakeGobd gobd;
  ASSERT_EQ(::setenv("GOB_SOCKET", gobd.socket().c_str(), 1), 0);
  gob_connection* connection = nullptr;
  EXPECT_EQ(gob_connect(nullptr, &connection), 0) << gob_last_error();
  ASSERT_EQ(::unsetenv("GOB_SOCKET"), 0);
  EXPECT_EQ(gob_disconnect(connection), 0);
}

TEST_F(ClientApiTest, TellsWhichNodesThereAre) {
  EXPECT_EQ(gob_node_id(connection_), 1);
  EXPECT_EQ(gob_node_count(connection_), 3);
  EXPECT_STREQ(gob_node_name(connection_, 0), "alpha");
  EXPECT_STREQ(gob_node_name(connection_, 2), "gamma");
  EXPECT_EQ(gob_node_name(connection_, 3), nullptr);
  EXPECT_EQ(gob_node_name(connection_, -1), nullptr);
  EXPECT_EQ(gob_page_size(connection_), 4096u);
}

TEST_F(ClientApiTest, MappingsOfAContainerShowTheSameBytes) {
  gob_container* container = create_and_open("c", 10'000, kReadWrite);
  std::uint64_t bytes = 0;
  EXPECT_EQ(gob_size(container, &bytes), 0);
  EXPECT_EQ(bytes, 10'000u);
  char* all = map(container, 0, 0, kReadWrite);
  char* second_page = map(container, 4096, 100, GOB_READ);
  EXPECT_EQ(all[9'999], 0);
  std::strcpy(all + 4096, "shared");
  EXPECT_STREQ(second_page, "shared");
  EXPECT_EQ(gob_close(container), 0);
  EXPECT_STREQ(second_page, "shared") << "mappings outlive the container's handle";
  EXPECT_EQ(gob_unmap(connection_, all), 0) << gob_last_error();
  EXPECT_STREQ(second_page, "shared");
  EXPECT_EQ(gob_unmap(connection_, second_page), 0);
  EXPECT_EQ(gob_unmap(connection_, second_page), -EINVAL);
}

TEST_F(ClientApiTest, WrongArgumentsAreRefusedInWords) {
  gob_container* container = create_and_open("c", 10'000, GOB_READ);
  void* address = nullptr;
  EXPECT_EQ(gob_map(container, 0, 0, kReadWrite, &address), -EACCES);
  EXPECT_THAT(gob_last_error(), HasSubstr("\"c\" was opened for reading only"));
  EXPECT_EQ(gob_map(container, 100, 0, GOB_READ, &address), -EINVAL);
  EXPECT_THAT(gob_last_error(), HasSubstr("multiple of the page size"));
  EXPECT_EQ(gob_map(container, 0, 10'001, GOB_READ, &address), -EINVAL);
  EXPECT_THAT(gob_last_error(), HasSubstr("outside of container \"c\""));
  EXPECT_EQ(gob_map(container, 4096, SIZE_MAX, GOB_READ, &address), -EINVAL);
  EXPECT_EQ(gob_map(container, 12'288, 0, GOB_READ, &address), -EINVAL);
  EXPECT_EQ(gob_map(container, 0, 0, 4, &address), -EINVAL);
  EXPECT_EQ(gob_map(nullptr, 0, 0, GOB_READ, &address), -EINVAL);
  EXPECT_EQ(gob_open(connection_, "c", 0, &container), -EINVAL);
  EXPECT_EQ(gob_open(connection_, nullptr, GOB_READ, &container), -EINVAL);
  EXPECT_EQ(gob_open(nullptr, "c", GOB_READ, &container), -EINVAL);
  EXPECT_EQ(gob_unmap(connection_, &address), -EINVAL);
  EXPECT_EQ(gob_barrier_wait(connection_, "b", 0, GOB_FOREVER), -EINVAL);
  EXPECT_EQ(gob_lock(connection_, "l", -7), -EINVAL);
  EXPECT_THAT(gob_last_error(), HasSubstr("GOB_FOREVER"));
}

TEST_F(ClientApiTest, ErrorsOfGobdReachTheProgramAsTheyAre) {
  gob_container* container = nullptr;
  EXPECT_EQ(gob_open(connection_, "none", GOB_READ, &container), -ENOENT);
  EXPECT_STREQ(gob_last_error(), "there is no container \"none\"");
  ASSERT_EQ(gob_create(connection_, "c", 4096, 0600), 0);
  EXPECT_EQ(gob_create(connection_, "c", 4096, 0600), -EEXIST);
  EXPECT_EQ(gob_remove(connection_, "c"), 0);
  EXPECT_EQ(gob_create(connection_, "c", 4096, 0600), 0);
  EXPECT_EQ(gob_create(connection_, std::string(1 << 17, 'x').c_str(), 1, 0600), -EMSGSIZE);
  EXPECT_EQ(gob_node_count(connection_), 3) << "the connection is still good";
}

TEST_F(ClientApiTest, LastErrorsBelongToTheirThread) {
  gob_container* container = nullptr;
  EXPECT_EQ(gob_open(connection_, "mine", GOB_READ, &container), -ENOENT);
  std::thread([&] {
    EXPECT_STREQ(gob_last_error(), "");
    EXPECT_EQ(gob_open(connection_, "other", GOB_READ, &container), -ENOENT);
    EXPECT_THAT(gob_last_error(), HasSubstr("other"));
  }).join();
  EXPECT_THAT(gob_last_error(), HasSubstr("mine"));
}

TEST_F(ClientApiTest, ThreadsOfOneProgramMeetInABarrier) {
  constexpr unsigned kThreads = 6;
  constexpr int kRounds = 50;
  std::atomic<int> arrived = 0;
  std::atomic<int> last = 0;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int round = 1; round <= kRounds; ++round) {
        ++arrived;
        const int result = gob_barrier_wait(connection_, "b", kThreads, GOB_FOREVER);
        ASSERT_GE(result, 0) << gob_last_error();
        last += result;
        ASSERT_GE(arrived.load(), round * static_cast<int>(kThreads));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(last, kRounds) << "one of them in each round";
}

TEST_F(ClientApiTest, LocksBelongToThreads) {
  ASSERT_EQ(gob_lock(connection_, "l", GOB_FOREVER), 0);
  EXPECT_EQ(gob_lock(connection_, "l", GOB_FOREVER), -EDEADLK);
  std::thread([&] {
    EXPECT_EQ(gob_trylock(connection_, "l"), -EBUSY);
    EXPECT_EQ(gob_unlock(connection_, "l"), -EPERM);
  }).join();
  ASSERT_EQ(gob_unlock(connection_, "l"), 0);
  std::thread([&] {
    EXPECT_EQ(gob_trylock(connection_, "l"), 0);
    EXPECT_EQ(gob_unlock(connection_, "l"), 0);
  }).join();
}

TEST_F(ClientApiTest, ALockOfADeadProgramIsTakenWithAWarning) {
  gob_connection* other = nullptr;
  ASSERT_EQ(gob_connect(gobd_.socket().c_str(), &other), 0);
  ASSERT_EQ(gob_lock(other, "l", GOB_FOREVER), 0);
  std::thread waiting([&] {
    EXPECT_EQ(gob_lock(connection_, "l", GOB_FOREVER), -EOWNERDEAD);
    EXPECT_THAT(gob_last_error(), HasSubstr("half done"));
    EXPECT_EQ(gob_unlock(connection_, "l"), 0);
  });
  ASSERT_EQ(gob_disconnect(other), 0);
  waiting.join();
}

TEST_F(ClientApiTest, AConditionVariablePassesEveryItemOnce) {
  constexpr int kItems = 200;
  int queued = 0;  // guarded by the cluster's lock "l"
  bool done = false;
  std::atomic<int> taken = 0;
  std::vector<std::thread> consumers;
  for (int i = 0; i < 3; ++i) {
    consumers.emplace_back([&] {
      ASSERT_EQ(gob_lock(connection_, "l", GOB_FOREVER), 0);
      while (true) {
        while (queued == 0 && !done) {
          ASSERT_EQ(gob_cond_wait(connection_, "c", "l", GOB_FOREVER), 0) << gob_last_error();
        }
        if (queued == 0) break;
        --queued;
        ++taken;
      }
      ASSERT_EQ(gob_unlock(connection_, "l"), 0);
    });
  }
  for (int i = 0; i < kItems; ++i) {
    ASSERT_EQ(gob_lock(connection_, "l", GOB_FOREVER), 0);
    ++queued;
    ASSERT_EQ(gob_cond_signal(connection_, "c", "l"), 0);
    ASSERT_EQ(gob_unlock(connection_, "l"), 0);
  }
  ASSERT_EQ(gob_lock(connection_, "l", GOB_FOREVER), 0);
  done = true;
  ASSERT_EQ(gob_cond_broadcast(connection_, "c", "l"), 0);
  ASSERT_EQ(gob_unlock(connection_, "l"), 0);
  for (auto& thread : consumers) thread.join();
  EXPECT_EQ(taken, kItems);
}

TEST_F(ClientApiTest, FaultsOfManyThreadsAndCallsGoOnTogether) {
  gob_container* container = create_and_open("c", 1 << 20, kReadWrite);
  char* memory = map(container, 0, 0, kReadWrite);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (std::size_t page = i; page < 256; page += 4) memory[page * 4096] = static_cast<char>(i);
      void* again = nullptr;
      ASSERT_EQ(gob_map(container, 0, 4096, kReadWrite, &again), 0) << gob_last_error();
      EXPECT_EQ(static_cast<char*>(again)[0], 0);
      ASSERT_EQ(gob_unmap(connection_, again), 0);
    });
  }
  for (auto& thread : threads) thread.join();
  for (std::size_t page = 0; page < 256; ++page) ASSERT_EQ(memory[page * 4096], page % 4);
}

TEST(ClientCpp, ObjectsReleaseWhatTheyHoldAndFailuresAreExceptions) {
  const FakeGobd gobd;
  gobelins::Mapping kept;
  {
    gobelins::Connection gob(gobd.socket());
    EXPECT_EQ(gob.node_name(gob.node_id()), "beta");
    gob.create("numbers", 1000 * sizeof(int));
    auto container = gob.open("numbers");
    EXPECT_EQ(container.size_bytes(), 4000u);
    kept = container.map();
    auto numbers = kept.as<int>();
    ASSERT_EQ(numbers.size(), 1000u);
    std::iota(numbers.begin(), numbers.end(), 1);
    EXPECT_TRUE(gob.barrier("alone", 1));

    auto mutex = gob.mutex("m");
    {
      const std::lock_guard guard(mutex);
      std::thread([&] { EXPECT_FALSE(mutex.try_lock()); }).join();
    }
    EXPECT_FALSE(mutex.lock_owner_died());
    mutex.unlock();
    gob.condition("c", mutex).signal();

    try {
      auto none = gob.open("none");
      ADD_FAILURE() << "opened what does not exist";
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), std::errc::no_such_file_or_directory);
      EXPECT_THAT(error.what(), HasSubstr("\"none\""));
    }
  }
  const auto numbers = kept.as<const int>();
  EXPECT_EQ(std::accumulate(numbers.begin(), numbers.end(), 0), 500'500)
      << "a mapping keeps its connection";
}

}  // namespace
}  // namespace gob::test
