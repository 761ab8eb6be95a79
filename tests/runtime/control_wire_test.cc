#include "libgob/runtime/control_wire.h"

#include <gtest/gtest.h>

namespace gob {
namespace {

control::Request open_request(const std::string& name) {
  control::Request request;
  request.set_id(9);
  request.mutable_open_container()->set_name(name);
  return request;
}

TEST(ControlWire, MessagesSurviveAnyCutOfTheStream) {
  std::string stream;
  ASSERT_TRUE(append_frame(open_request("one"), kMaxControlRequestBytes, stream).ok());
  ASSERT_TRUE(
      append_frame(open_request(std::string(5000, 'x')), kMaxControlRequestBytes, stream).ok());
  for (std::size_t piece = 1; piece < stream.size(); piece = piece * 3 + 1) {
    FrameReader reader(kMaxControlRequestBytes);
    std::vector<std::string> names;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      reader.append(std::string_view(stream).substr(at, piece));
      while (true) {
        auto bytes = reader.next();
        ASSERT_TRUE(bytes.ok());
        if (!bytes->has_value()) break;
        auto request = parse_request(**bytes);
        ASSERT_TRUE(request.ok());
        names.push_back(request->open_container().name());
      }
    }
    EXPECT_EQ(names, (std::vector<std::string>{"one", std::string(5000, 'x')})) << piece;
    EXPECT_EQ(reader.buffered_bytes(), 0u);
  }
}

TEST(ControlWire, AnAnnouncedLengthOverTheLimitIsRefusedBeforeItsBytesCome) {
  FrameReader reader(kMaxControlRequestBytes);
  reader.append(std::string_view("\xff\xff\xff\x7f", 4));
  auto bytes = reader.next();
  ASSERT_FALSE(bytes.ok());
  EXPECT_EQ(bytes.error().code, ErrorCode::kProtocol);
}

TEST(ControlWire, AMessageOverTheLimitIsNotFramed) {
  std::string out;
  const auto status = append_frame(open_request(std::string(kMaxControlRequestBytes, 'x')),
                                   kMaxControlRequestBytes, out);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().errno_value, EMSGSIZE);
  EXPECT_TRUE(out.empty());
}

TEST(ControlWire, RequestsWithoutIdOrWithTooManyDescriptorsAreRefused) {
  control::Request request = open_request("x");
  request.set_id(0);
  EXPECT_FALSE(parse_request(request.SerializeAsString()).ok());
  request.set_id(1);
  EXPECT_TRUE(parse_request(request.SerializeAsString()).ok());
  request.set_fds(kMaxControlFds + 1);
  EXPECT_FALSE(parse_request(request.SerializeAsString()).ok());
  EXPECT_FALSE(parse_request("\x0a\xff").ok());
}

TEST(ControlWire, ARequestOfALaterReleaseIsParsedWithoutABody) {
  control::Request request;
  request.set_id(3);
  // Field 900, length-delimited, 2 bytes.
  const std::string later = request.SerializeAsString() + std::string("\xa2\x38\x02hi", 5);
  auto parsed = parse_request(later);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->body_case(), control::Request::BODY_NOT_SET);
  EXPECT_EQ(name_of(parsed->body_case()), "unknown");
}

TEST(ControlWire, NamesAreBytesSoThatOddOnesCanBeRefusedByName) {
  auto parsed = parse_request(open_request("\xff\xfe\x01").SerializeAsString());
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->open_container().name(), "\xff\xfe\x01");
}

TEST(ControlWire, ErrorsKeepTheirMeaning) {
  control::Reply reply;
  set_error(make_error(ErrorCode::kNotFound, "no container \"a\""), reply);
  const Error error = error_of(reply.error());
  EXPECT_EQ(error.code, ErrorCode::kNotFound);
  EXPECT_EQ(error.errno_value, ENOENT);
  EXPECT_EQ(error.context, "no container \"a\"");
  reply.mutable_error()->set_code(4711);
  reply.mutable_error()->set_errno_value(-5);
  EXPECT_EQ(error_of(reply.error()).code, ErrorCode::kSystem);
  EXPECT_EQ(errno_of(error_of(reply.error())), EIO);
}

}  // namespace
}  // namespace gob
