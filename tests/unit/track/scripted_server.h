#pragma once
// A server on a port of the kernel's choice, whose answers a test writes as bytes.

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lab/core/text.h"

namespace lab::test {

struct Reply {
  std::string bytes;
  bool close = false;  // behind the bytes
  bool hang = false;   // say nothing more until the server ends
};

// 200 and others, with a length, the connection kept.
inline Reply reply(int status, const std::string& body, const std::string& headers = "") {
  return {.bytes = text("HTTP/1.1 ", status, " Text\r\nContent-Length: ", body.size(), "\r\n", headers,
                        "\r\n", body)};
}

// Serves each connection in a thread of its own. The handler gets whole requests (head and body), one at a
// time, and is called under a lock.
class ScriptedServer {
 public:
  using Handler = std::function<Reply(const std::string& request)>;

  explicit ScriptedServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener_, 16) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      throw std::runtime_error("no port for the test's server");
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~ScriptedServer() {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    close(listener_);
    {
      const std::lock_guard lock(mutex_);
      for (const int connection : connections_) shutdown(connection, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
    for (const int connection : connections_) close(connection);
  }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  std::string url() const { return text("http://127.0.0.1:", port_); }
  int port() const { return port_; }
  std::vector<std::string> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  // Does it while the handler waits: for changes of what that reads, in tests that do not wait for each
  // answer.
  void change(const std::function<void()>& what) {
    const std::lock_guard lock(mutex_);
    what();
  }
  size_t connections() {
    const std::lock_guard lock(mutex_);
    return connections_.size();
  }

 private:
  void accept_all() {
    for (int connection; (connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
      const std::lock_guard lock(mutex_);
      connections_.push_back(connection);
      threads_.emplace_back([this, connection] { serve(connection); });
    }
  }

  void serve(int connection) {
    for (std::string request; !(request = next_request(connection)).empty();) {
      Reply answer;
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(request);
        answer = handler_(request);
      }
      send(connection, answer.bytes.data(), answer.bytes.size(), MSG_NOSIGNAL);
      char byte = 0;
      while (answer.hang && recv(connection, &byte, 1, 0) > 0) {
      }
      if (answer.close || answer.hang) break;
    }
    shutdown(connection, SHUT_RDWR);
  }

  static std::string next_request(int connection) {
    std::string request;
    size_t wanted = std::string::npos;
    while (request.size() < wanted) {
      char bytes[65536];
      const ssize_t got = recv(connection, bytes, sizeof bytes, 0);
      if (got <= 0) return "";
      request.append(bytes, static_cast<size_t>(got));
      const size_t head = request.find("\r\n\r\n");
      if (head == std::string::npos) continue;
      const size_t length = request.find("Content-Length: ");
      wanted = head + 4 + (length < head ? std::stoul(request.substr(length + 16)) : 0);
    }
    return request;
  }

  Handler handler_;
  int listener_ = -1;
  int port_ = 0;
  std::thread acceptor_;
  std::mutex mutex_;
  std::vector<std::string> requests_;
  std::vector<int> connections_;
  std::vector<std::thread> threads_;
};

}  // namespace lab::test
