// A progress bar on stderr while long work runs; silent unless stderr is a terminal. Main thread.
#pragma once

#include <cstddef>
#include <string>

namespace gob::bench {

class Progress {
 public:
  // `steps`: how often step() will be called.
  Progress(std::string title, std::size_t steps);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // Wipes the bar.
  ~Progress();

  // Names the work that begins now; what was begun before counts as done.
  void step(const std::string& doing);

 private:
  std::string title_;
  std::size_t steps_;
  std::size_t begun_ = 0;
  bool visible_;
};

}  // namespace gob::bench
