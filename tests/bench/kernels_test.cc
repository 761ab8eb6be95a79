#include <gtest/gtest.h>

#include <barrier>
#include <cmath>
#include <thread>
#include <vector>

#include "gobbench/algorithm.h"
#include "gobbench/jacobi.h"
#include "gobbench/mgs.h"

namespace gob::bench {
namespace {

struct Square {
  explicit Square(std::size_t size, std::size_t stride)
      : values(size * stride, -7), size_(size), stride_(stride) {}
  explicit Square(std::size_t size) : Square(size, size) {}
  [[nodiscard]] Matrix matrix() { return {values.data(), size_, stride_}; }
  std::vector<double> values;
  std::size_t size_;
  std::size_t stride_;
};

void nobody_else() {}

// Workers as threads on shared memory: the same program as on several nodes.
Square solve_in_threads(const Problem& problem, unsigned workers) {
  Square result(problem.size, problem.stride);
  Square temporary(problem.size, problem.stride);
  std::barrier<> meet(workers);
  std::vector<std::thread> threads;
  for (unsigned worker = 0; worker < workers; ++worker)
    threads.emplace_back([&, worker] {
      solve(problem, result.matrix(), temporary.matrix(), workers, worker,
            [&] { meet.arrive_and_wait(); });
    });
  for (std::thread& thread : threads) thread.join();
  return result;
}

TEST(Jacobi, OneInnerElementStepByStep) {
  // On a 3 x 3 grid the step is 1, the middle weight -4.05 and the right side in the centre -4.05:
  // each iteration goes 0.9 of the way to the solution, 1.
  Square u(3);
  Square temporary(3);
  Jacobi jacobi(u.matrix(), temporary.matrix(), Distribution(3, 1, 3), 0);
  jacobi.prepare();
  jacobi.iterate(1, nobody_else);
  EXPECT_NEAR(u.values[4], 0.9, 1e-15);
  jacobi.iterate(1, nobody_else);
  EXPECT_NEAR(u.values[4], 0.99, 1e-15);
  for (const std::size_t boundary : {0u, 1u, 2u, 3u, 5u, 6u, 7u, 8u})
    EXPECT_EQ(u.values[boundary], 0) << boundary;
}

TEST(Jacobi, ConvergesToTheSolution) {
  constexpr std::size_t kSize = 17;
  Square u(kSize);
  Square temporary(kSize);
  Jacobi jacobi(u.matrix(), temporary.matrix(), Distribution(kSize, 1, kSize), 0);
  jacobi.prepare();
  jacobi.iterate(3000, nobody_else);
  for (std::size_t i = 0; i < kSize; ++i)
    for (std::size_t j = 0; j < kSize; ++j) {
      const double y = -1 + 2 * static_cast<double>(i) / (kSize - 1);
      const double x = -1 + 2 * static_cast<double>(j) / (kSize - 1);
      // Second differences are exact for this solution, so only rounding remains.
      EXPECT_NEAR(u.values[i * kSize + j], (1 - x * x) * (1 - y * y), 1e-9) << i << "," << j;
    }
}

TEST(Mgs, TwoVectorsByHand) {
  Square v(2);
  v.values = {3, 4, 1, 0};
  Mgs(v.matrix(), 1, 0).orthonormalise(nobody_else);
  // (3,4)/5; then (1,0) - 0.6 (0.6,0.8) = (0.64,-0.48), of length 0.8.
  const std::vector<double> expected = {0.6, 0.8, 0.8, -0.6};
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(v.values[i], expected[i], 1e-15);
}

TEST(Mgs, VectorsBecomeOrthonormal) {
  constexpr std::size_t kSize = 65;
  Square v(kSize);
  Mgs mgs(v.matrix(), 1, 0);
  mgs.prepare();
  mgs.orthonormalise(nobody_else);
  for (std::size_t a = 0; a < kSize; ++a)
    for (std::size_t b = 0; b <= a; ++b) {
      double product = 0;
      for (std::size_t j = 0; j < kSize; ++j)
        product += v.values[a * kSize + j] * v.values[b * kSize + j];
      EXPECT_NEAR(product, a == b ? 1 : 0, 1e-12) << a << "," << b;
    }
}

TEST(Kernels, AnyNumberOfWorkersGivesTheSequentialBits) {
  for (const Algorithm algorithm : {Algorithm::kJacobi, Algorithm::kMgs})
    for (const bool padded : {false, true})
      for (const unsigned workers : {1u, 2u, 3u, 5u}) {
        Problem problem;
        problem.algorithm = algorithm;
        problem.size = 37;
        problem.stride = Matrix::stride_of(problem.size, padded);
        problem.iterations = 7;
        problem.block = 4;
        Square expected(problem.size, problem.stride);
        solve_sequentially(problem, expected.matrix());
        Square found = solve_in_threads(problem, workers);
        EXPECT_FALSE(first_difference(expected.matrix(), found.matrix()))
            << workers << " workers, stride " << problem.stride;
      }
}

TEST(FirstDifference, TellsTheElementAndBothValues) {
  Square a(3, 4);
  Square b = a;
  EXPECT_FALSE(first_difference(a.matrix(), b.matrix()));
  b.values[3] = 1;  // between the lines: no element
  EXPECT_FALSE(first_difference(a.matrix(), b.matrix()));
  b.values[4 + 2] = 8;
  b.values[8] = 9;
  const auto wrong = first_difference(a.matrix(), b.matrix());
  ASSERT_TRUE(wrong);
  EXPECT_EQ(wrong->line, 1u);
  EXPECT_EQ(wrong->column, 2u);
  EXPECT_EQ(wrong->expected, -7);
  EXPECT_EQ(wrong->found, 8);
}

TEST(FirstDifference, SeesTheSignOfZero) {
  Square a(3);
  Square b(3);
  a.values[5] = 0.0;
  b.values[5] = -0.0;
  const auto wrong = first_difference(a.matrix(), b.matrix());
  ASSERT_TRUE(wrong);
  EXPECT_EQ(wrong->column, 2u);
}

}  // namespace
}  // namespace gob::bench
