// Bytes that no correct peer or program sends, and starts that cannot work: clear errors, and the
// cluster goes on.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <random>

#include "libgob/base/unique_fd.h"
#include "tests/system/nodes.h"

namespace gob {
namespace {

DaemonConfig settings() {
  DaemonConfig config;
  config.cluster = "hostile";
  config.budget_bytes = std::uint64_t{32} << 20;
  return config;
}

bool still_shares(Nodes& nodes, const std::string& name) {
  return nodes.run_on_all([&](gobelins::Connection& gob, unsigned rank) {
    if (rank == 0) gob.create(name, 4096);
    gob.barrier(name + " made", nodes.count());
    auto memory = gob.open(name).map();
    if (rank == 0) memory.as<int>()[0] = 5;
    gob.barrier(name + " written", nodes.count());
    return memory.as<int>()[0] == 5;
  });
}

void send_garbage(int fd, std::mt19937_64& random) {
  std::string bytes(1 + random() % 8192, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  static_cast<void>(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL));
}

TEST(Hostile, BytesOnThePeerPortAndTheControlSocket) {
  Nodes nodes(2, settings());
  std::mt19937_64 random(1);
  for (int i = 0; i < 100; ++i) {
    const UniqueFd peer(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    in.sin_port = htons(nodes.port_of(0));
    if (::connect(peer.get(), reinterpret_cast<sockaddr*>(&in), sizeof in) == 0)
      send_garbage(peer.get(), random);
    const UniqueFd program(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un un{};
    un.sun_family = AF_UNIX;
    nodes.socket_of(0).copy(un.sun_path, sizeof un.sun_path - 1);
    if (::connect(program.get(), reinterpret_cast<sockaddr*>(&un), sizeof un) == 0)
      send_garbage(program.get(), random);
  }
  EXPECT_TRUE(still_shares(nodes, "after garbage"));
}

TEST(Hostile, NamesAndSizesThatCannotBe) {
  Nodes nodes(2, settings());
  EXPECT_TRUE(nodes.run(0, [](gobelins::Connection& gob) {
    const auto refused = [&](const std::string& name, std::uint64_t size) {
      try {
        gob.create(name, size);
      } catch (const std::system_error& error) {
        return error.what() != std::string();
      }
      std::fprintf(stderr, "'%s' of %llu bytes was made\n", name.c_str(),
                   static_cast<unsigned long long>(size));
      return false;
    };
    return refused("", 4096) && refused("a/b", 4096) && refused(".hidden", 4096) &&
           refused("new\nline", 4096) && refused(std::string(129, 'x'), 4096) &&
           refused("none", 0) && refused("absurd", ~std::uint64_t{0});
  }));
  EXPECT_TRUE(still_shares(nodes, "Bäume & Flüsse, 10 %"));
}

// Runs gobd with a configuration that cannot work; its exit status and what it said.
std::pair<int, std::string> start_badly(const std::string& folder, const std::string& toml) {
  const std::string file = folder + "/bad.toml";
  const std::string said = folder + "/bad.out";
  std::ofstream(file) << toml;
  const pid_t pid = ::fork();
  if (pid == 0) {
    const int fd = ::open(said.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup2(fd, 1);
    ::dup2(fd, 2);
    ::unsetenv("NOTIFY_SOCKET");
    ::execl(GOBD, "gobd", "--config", file.c_str(), nullptr);
    ::_exit(127);
  }
  const int status = Nodes::wait_for(pid, 30'000);
  std::ifstream in(said);
  return {status, {std::istreambuf_iterator<char>(in), {}}};
}

TEST(Hostile, StartsThatCannotWorkSayWhy) {
  Nodes nodes(1, settings());
  const std::string& folder = nodes.folder();
  const auto node = [&](std::uint16_t port) {
    return "[[nodes]]\nname='a'\nhost='127.0.0.1'\nport=" + std::to_string(port) + "\n";
  };
  const std::string socket = "control_socket='" + folder + "/bad.sock'\n";

  auto [status, said] = start_badly(folder, "node = 'a'\nbudgt = '1G'\n" + node(1));
  EXPECT_EQ(status, 2);
  EXPECT_NE(said.find("unknown key 'budgt'"), std::string::npos) << said;

  std::tie(status, said) = start_badly(folder, "node = 'b'\n" + node(1));
  EXPECT_EQ(status, 2);
  EXPECT_NE(said.find("'b' is not in the list"), std::string::npos) << said;

  std::tie(status, said) = start_badly(folder, "node = = 'b'\n");
  EXPECT_EQ(status, 2);
  EXPECT_NE(said.find("line 1"), std::string::npos) << said;

  std::tie(status, said) = start_badly(folder, "node = 'a'\n" + socket + node(nodes.port_of(0)));
  EXPECT_EQ(status, 1) << "the port is in use";
  EXPECT_NE(said.find(std::to_string(nodes.port_of(0))), std::string::npos) << said;

  std::tie(status, said) = start_badly(
      folder, "node = 'a'\ncontrol_socket='" + folder + "/no/such/dir/s'\n" + node(0x7fff));
  EXPECT_EQ(status, 1);
  EXPECT_NE(said.find("/no/such/dir"), std::string::npos) << said;

  std::tie(status, said) =
      start_badly(folder, "node = 'a'\nswap_dir='/proc/none'\n" + socket + node(0x7ffe));
  EXPECT_EQ(status, 1);
  EXPECT_NE(said.find("/proc/none"), std::string::npos) << said;
}

}  // namespace
}  // namespace gob
