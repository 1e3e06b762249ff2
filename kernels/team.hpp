// A second thread: two pieces of work are done at once, each by one thread, so that results do not
// depend on whether there is one.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

namespace tensor_optix {

// The second thread sleeps between calls of the engine, and looks out for work without sleeping
// within one.
class Team {
  public:
    Team();
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    // While it lives, the second thread is awake.
    class Call {
      public:
        explicit Call(Team* team);
        ~Call();
        Call(const Call&) = delete;
        Call& operator=(const Call&) = delete;

      private:
        Team* team_;
    };

    using Work = void (*)(void*);
    void start(Work work, void* context);
    void finish();

  private:
    void serve();

    // Each on a line of its own: the threads write them in turn.
    alignas(64) std::atomic<std::uint64_t> asked_{0};
    alignas(64) std::atomic<std::uint64_t> done_{0};
    alignas(64) std::atomic<bool> is_awake_{false};
    Work work_ = nullptr;
    void* context_ = nullptr;
    bool is_ending_ = false;
    std::mutex mutex_;
    std::condition_variable woken_;
    std::thread thread_;
};

// Does both, the second by the team's thread if there is a team. They may not touch the same
// memory.
template <typename First, typename Second>
void both(Team* team, First&& first, Second&& second) {
    if (!team) {
        first();
        second();
        return;
    }
    // Passed by its own address, as the work may be constant.
    auto* pointer = std::addressof(second);
    using Pointer = decltype(pointer);
    team->start([](void* context) { (**static_cast<Pointer*>(context))(); }, &pointer);
    first();
    team->finish();
}

}  // namespace tensor_optix
