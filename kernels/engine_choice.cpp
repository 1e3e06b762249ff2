// Which of the compiled engines this machine runs, and what they share: compiled for any machine.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine.hpp"
#include "team.hpp"

namespace tensor_optix {

namespace {

// Looks again at once a few thousand times, then lets others have the core.
template <typename Condition>
void look_out(Condition is_met) {
    for (std::uint32_t tries = 0; !is_met(); ++tries) {
        if (tries > 4000) {
            std::this_thread::yield();
        } else {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
    }
}

}  // namespace

Team::Team() : thread_([this] { serve(); }) {}

Team::~Team() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        is_ending_ = true;
    }
    woken_.notify_one();
    thread_.join();
}

Team::Call::Call(Team* team) : team_(team) {
    if (!team_) return;
    {
        const std::lock_guard<std::mutex> lock(team_->mutex_);
        team_->is_awake_.store(true, std::memory_order_release);
    }
    team_->woken_.notify_one();
}

Team::Call::~Call() {
    if (team_) team_->is_awake_.store(false, std::memory_order_release);
}

void Team::start(Work work, void* context) {
    work_ = work;
    context_ = context;
    asked_.store(asked_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void Team::finish() {
    const std::uint64_t asked = asked_.load(std::memory_order_relaxed);
    look_out([&] { return done_.load(std::memory_order_acquire) == asked; });
}

void Team::serve() {
    std::uint64_t done = 0;
    while (true) {
        {
            std::unique_lock<std::mutex> lock(mutex_);
            woken_.wait(lock, [this] { return is_ending_ || is_awake_.load(); });
            if (is_ending_) return;
        }
        while (true) {
            look_out([&] {
                return asked_.load(std::memory_order_acquire) != done ||
                       !is_awake_.load(std::memory_order_acquire);
            });
            if (asked_.load(std::memory_order_acquire) == done) break;
            work_(context_);
            done_.store(++done, std::memory_order_release);
        }
    }
}

Workspace::Workspace(std::size_t threads) {
    if (threads < 2) return;
    team_ = std::make_unique<Team>();
    second_ = std::make_unique<Workspace>();
}

Workspace::~Workspace() = default;

void Workspace::begin(std::size_t floats) {
    if (memory_.size() < floats + kAlignment) memory_.resize(floats + kAlignment);
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    const std::uintptr_t bytes = kAlignment * sizeof(float);
    next_ = memory_.data() + (bytes - address % bytes) % bytes / sizeof(float);
}

#if defined(TENSOR_OPTIX_X86)
namespace avx512 {
extern const Engine kEngine;
}
namespace avx2 {
extern const Engine kEngine;
}
#endif
namespace baseline {
extern const Engine kEngine;
}

namespace {

// Those that this machine runs, the best first.
std::vector<const Engine*> engines() {
    std::vector<const Engine*> found;
#if defined(TENSOR_OPTIX_X86)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        found.push_back(&avx512::kEngine);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        found.push_back(&avx2::kEngine);
#endif
    found.push_back(&baseline::kEngine);
    return found;
}

const Engine& choose() {
    const std::vector<const Engine*> found = engines();
    const char* asked = std::getenv("TENSOR_OPTIX_ENGINE");
    if (!asked || !*asked) return *found.front();
    std::string names;
    for (const Engine* engine : found) {
        if (std::strcmp(engine->instructions, asked) == 0) return *engine;
        names += std::string(names.empty() ? "" : ", ") + engine->instructions;
    }
    throw std::invalid_argument("TENSOR_OPTIX_ENGINE must be what this machine runs (" + names +
                                "), got '" + asked + "'");
}

}  // namespace

const Engine& engine() {
    static const Engine& chosen = choose();
    return chosen;
}

}  // namespace tensor_optix
