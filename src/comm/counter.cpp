#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "comm/mpi_calls.h"
#include "lab/comm/world.h"

namespace lab {
namespace {

constexpr std::chrono::milliseconds look_pause{20};  // of the thread that answers
constexpr int question = 0, answer = 1;              // tags

}  // namespace

class Counter::Desk {
 public:
  explicit Desk(const World& world) : rank_(world.rank()) {
    if (world.size() == 1) return;
    check_mpi(MPI_Comm_dup(world.ranks_->comm, &comm_), "MPI_Comm_dup");
    if (rank_ == 0) thread_ = std::jthread([this](const std::stop_token& stop) { answer_until(stop); });
  }

  int64_t next() {
    if (rank_ == 0) return count_++;
    int64_t number = 0;
    std::vector<MPI_Request> requests = {begin_receive(comm_, {&number, 1, DType::i64}, 0, answer),
                                         begin_send(comm_, {}, 0, question)};
    wait_all(requests, "asking for a number");
    return number;
  }

 private:
  void answer_until(const std::stop_token& stop) {
    for (std::unique_lock lock(mutex_); !stop.stop_requested();) {
      int asked = 0;
      MPI_Status status{};
      MPI_Iprobe(MPI_ANY_SOURCE, question, comm_, &asked, &status);
      if (asked)
        reply(status.MPI_SOURCE);
      else
        wake_.wait_for(lock, stop, look_pause, [] { return false; });
    }
  }
  // MPI's own handler ends the job where one of these fails.
  void reply(int rank) {
    const int64_t number = count_++;
    MPI_Recv(nullptr, 0, MPI_UINT8_T, rank, question, comm_, MPI_STATUS_IGNORE);
    MPI_Send(&number, 1, MPI_INT64_T, rank, answer, comm_);
  }

  int rank_ = 0;
  MPI_Comm comm_ = MPI_COMM_NULL;  // not freed: that would be a collective in a destructor
  std::atomic<int64_t> count_ = 0;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;  // the last: it is joined first
};

Counter::Counter(const World& world) : desk_(std::make_unique<Desk>(world)) {}
Counter::~Counter() = default;
int64_t Counter::next() { return desk_->next(); }

}  // namespace lab
