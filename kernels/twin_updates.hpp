// Whole updates of an actor of continuous actions and two critics: SAC and TD3.
#pragma once

#include <limits>

#include "descent.hpp"
#include "losses.hpp"
#include "updates.hpp"

namespace tensor_optix {
namespace TENSOR_OPTIX_ISA {

namespace details {

constexpr double kUnlimited = std::numeric_limits<double>::infinity();

// [observation, action] side by side, [rows, D + A]; null: the actions are still to come.
inline void join(const float* observations, std::size_t dims, const float* actions,
                 std::size_t size, std::size_t rows, float* joined) {
    for (std::size_t i = 0; i < rows; ++i, joined += dims + size) {
        std::copy(observations + i * dims, observations + (i + 1) * dims, joined);
        if (actions) std::copy(actions + i * size, actions + (i + 1) * size, joined + dims);
    }
}

// What updates of a batch write into.
struct TwinMemory {
    float *critic_gradients, *actor_gradients;
    float* joined;                                                       // [B, D + A]
    float *targets, *errors1, *errors2, *slopes1, *slopes2, *log_probs;  // [B]
    float *of_actions1, *of_actions2;                                    // [B, A]
};

struct TwinPass {
    const TwinCritics& networks;
    std::size_t rows, dims, size;  // B, D, A
    TwinMemory memory;
    Workspace& workspace;
    Team* team;  // shares the work by critics; null: there is one thread

    // Where the second critic's passes are computed.
    Workspace& second() const {
        return workspace.second();
    }
};

inline TwinPass twin_pass(const TwinCritics& networks, std::size_t rows, Workspace& workspace) {
    const std::size_t dims = networks.actor.inputs();
    const std::size_t size = networks.critic1.inputs() - dims;
    const std::size_t of_critics = num_weights(networks.critic1) + num_weights(networks.critic2);
    const std::size_t of_actor = num_weights(networks.actor);
    const std::size_t passes =
        2 * (floats_of_passes(networks.actor, rows) + floats_of_passes(networks.critic1, rows) +
             floats_of_passes(networks.critic2, rows));
    workspace.begin(Workspace::rounded(of_critics) + Workspace::rounded(of_actor) +
                    Workspace::rounded(rows * (dims + size)) + 6 * Workspace::rounded(rows) +
                    2 * Workspace::rounded(rows * size) + passes);
    if (workspace.team()) workspace.second().begin(passes);
    const TwinMemory memory = {workspace.take(of_critics),
                               workspace.take(of_actor),
                               workspace.take(rows * (dims + size)),
                               workspace.take(rows),
                               workspace.take(rows),
                               workspace.take(rows),
                               workspace.take(rows),
                               workspace.take(rows),
                               workspace.take(rows),
                               workspace.take(rows * size),
                               workspace.take(rows * size)};
    return {networks, rows, dims, size, memory, workspace, workspace.team()};
}

// Gives back, at its end, what was taken meanwhile of both workspaces.
class Scope {
  public:
    explicit Scope(const TwinPass& pass)
        : pass_(pass), first_(pass.workspace.mark()), second_(pass.second().mark()) {}
    ~Scope() {
        pass_.second().release(second_);
        pass_.workspace.release(first_);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

  private:
    const TwinPass& pass_;
    float *first_, *second_;
};

// r + discount * (min of the targets' values of what is joined - alpha * log_prob), [B];
// `log_probs` may be null.
inline void twin_targets(const TwinPass& pass, const ReplayRows& all, std::size_t first,
                         float alpha, const float* log_probs) {
    const Scope scope(pass);
    const float* joined = pass.memory.joined;
    const float *values1, *values2;
    const auto values = [&](const Network& target, Workspace& workspace) {
        Trace trace;
        return forward(target, joined, pass.rows, trace, workspace);
    };
    both(
        pass.team, [&] { values1 = values(pass.networks.target1, pass.workspace); },
        [&] { values2 = values(pass.networks.target2, pass.second()); });
    for (std::size_t i = 0; i < pass.rows; ++i) {
        // NaN of either is kept.
        float least = values2[i] < values1[i] || values2[i] != values2[i] ? values2[i] : values1[i];
        if (log_probs) least -= alpha * log_probs[i];
        pass.memory.targets[i] = all.rewards[first + i] + all.discounts[first + i] * least;
    }
}

struct CriticUpdate {
    double loss, norm;  // NaN: it was left out
};

inline CriticUpdate update_critics(const TwinPass& pass, const ReplayRows& all, std::size_t first) {
    const Scope scope(pass);
    const TwinMemory& memory = pass.memory;
    const TwinCritics& networks = pass.networks;
    join(all.observations + first * pass.dims, pass.dims, all.actions + first * pass.size,
         pass.size, pass.rows, memory.joined);
    const auto learn = [&](const Network& critic, float* errors, float* slopes, float* gradients,
                           Workspace& workspace) {
        Trace trace;
        const float* values = forward(critic, memory.joined, pass.rows, trace, workspace);
        std::copy(values, values + pass.rows, slopes);
        const TdErrors found =
            td_errors(memory.targets, all.weights + first, pass.rows, slopes, errors);
        backward(critic, memory.joined, pass.rows, trace, slopes, {gradients, nullptr, 0},
                 workspace);
        return found.squares / static_cast<double>(pass.rows);
    };
    const std::size_t sizes[2] = {num_weights(networks.critic1), num_weights(networks.critic2)};
    const std::size_t leaves[2] = {num_leaves(networks.critic1), num_leaves(networks.critic2)};
    double loss1, loss2;
    both(
        pass.team,
        [&] {
            loss1 = learn(networks.critic1, memory.errors1, memory.slopes1, memory.critic_gradients,
                          pass.workspace);
        },
        [&] {
            loss2 = learn(networks.critic2, memory.errors2, memory.slopes2,
                          memory.critic_gradients + sizes[0], pass.second());
        });
    const double norm =
        descend(networks.critic_optimizer, {memory.critic_gradients, sizes, leaves, 2}, kUnlimited,
                loss1 + loss2, pass.team);
    for (std::size_t i = 0; i < pass.rows; ++i) {
        const float error = 0.5f * (std::fabs(memory.errors1[i]) + std::fabs(memory.errors2[i]));
        all.td_errors[first + i] = std::isnan(norm) ? std::nanf("") : error;
    }
    return {loss1 + loss2, norm};
}

// Writes the gradient of `-sum(min of both critics' values) / B` with respect to the actions in
// `joined`; returns that sum of values. Where both are the same, each has half.
inline double least_value_gradients(const TwinPass& pass) {
    const Scope scope(pass);
    const TwinMemory& memory = pass.memory;
    const Network &critic1 = pass.networks.critic1, &critic2 = pass.networks.critic2;
    Trace trace1, trace2;
    const float *values1, *values2;
    both(
        pass.team,
        [&] { values1 = forward(critic1, memory.joined, pass.rows, trace1, pass.workspace); },
        [&] { values2 = forward(critic2, memory.joined, pass.rows, trace2, pass.second()); });
    const float share = -1.0f / static_cast<float>(pass.rows);
    double total = 0.0;
    for (std::size_t i = 0; i < pass.rows; ++i) {
        const float one = values1[i], two = values2[i];
        memory.slopes1[i] = one < two ? share : one == two ? 0.5f * share : 0.0f;
        memory.slopes2[i] = share - memory.slopes1[i];
        total += static_cast<double>(two < one || two != two ? two : one);
    }
    both(
        pass.team,
        [&] {
            backward(critic1, memory.joined, pass.rows, trace1, memory.slopes1,
                     {nullptr, memory.of_actions1, pass.dims}, pass.workspace);
        },
        [&] {
            backward(critic2, memory.joined, pass.rows, trace2, memory.slopes2,
                     {nullptr, memory.of_actions2, pass.dims}, pass.second());
        });
    for (std::size_t i = 0; i < pass.rows * pass.size; ++i)
        memory.of_actions1[i] += memory.of_actions2[i];
    return total;
}

inline double descend_actor(const TwinPass& pass, const float* observations, const Trace& trace,
                            float* slopes, double loss) {
    const Network& actor = pass.networks.actor;
    backward(actor, observations, pass.rows, trace, slopes,
             {pass.memory.actor_gradients, nullptr, 0}, pass.workspace, pass.team);
    const std::size_t weights = num_weights(actor), leaves = num_leaves(actor);
    return descend(pass.networks.actor_optimizer,
                   {pass.memory.actor_gradients, &weights, &leaves, 1}, kUnlimited, loss);
}

inline void targets_follow(const TwinPass& pass, double tau) {
    both(
        pass.team, [&] { blend(pass.networks.target1, pass.networks.critic1, tau); },
        [&] { blend(pass.networks.target2, pass.networks.critic2, tau); });
}

// What SAC's actor makes of a batch's observations, and of the next ones: it does not change in
// between.
struct SacPolicy {
    Trace trace;
    const float *outputs, *next_outputs;  // [B, 2A]
};

inline void sac_policy(const TwinPass& pass, const ReplayRows& all, std::size_t first,
                       SacPolicy& policy) {
    const Network& actor = pass.networks.actor;
    const float* observations = all.observations + first * pass.dims;
    const float* next = all.next_observations + first * pass.dims;
    Trace trace;
    both(
        pass.team,
        [&] {
            policy.outputs = forward(actor, observations, pass.rows, policy.trace, pass.workspace);
        },
        [&] { policy.next_outputs = forward(actor, next, pass.rows, trace, pass.second()); });
}

// Observations and the actions drawn of them, side by side, and the log-densities of these.
inline void sac_join(const TwinPass& pass, const float* observations, const float* outputs,
                     const float* noise) {
    join(observations, pass.dims, nullptr, pass.size, pass.rows, pass.memory.joined);
    squashed_draw(outputs, noise, pass.rows, pass.size, pass.memory.joined + pass.dims,
                  pass.dims + pass.size, pass.memory.log_probs);
}

struct SacActor {
    double loss, entropy, norm;
};

// eq. 7 of the paper, with the policy's own actions.
inline SacActor update_sac_actor(const TwinPass& pass, const ReplayRows& all, std::size_t first,
                                 const SacPolicy& policy, float alpha) {
    const TwinMemory& memory = pass.memory;
    const float* observations = all.observations + first * pass.dims;
    const float* noise = all.noise + first * pass.size;
    float* const slopes = pass.workspace.take(2 * pass.rows * pass.size);
    std::copy(policy.outputs, policy.outputs + 2 * pass.rows * pass.size, slopes);
    sac_join(pass, observations, slopes, noise);
    const double values = least_value_gradients(pass);
    squashed_draw_gradients(noise, memory.of_actions1, alpha, pass.rows, pass.size, slopes);
    double log_probs = 0.0;
    for (std::size_t i = 0; i < pass.rows; ++i)
        log_probs += static_cast<double>(memory.log_probs[i]);
    const double share = 1.0 / static_cast<double>(pass.rows);
    const double loss = (static_cast<double>(alpha) * log_probs - values) * share;
    const double norm = descend_actor(pass, observations, policy.trace, slopes, loss);
    return {loss, -log_probs * share, norm};
}

// Observations and tanh(outputs + noise), limited to [-1, 1], side by side; no noise:
// tanh(outputs).
inline void join_tanh(const TwinPass& pass, const float* observations, const float* outputs,
                      const float* noise) {
    join(observations, pass.dims, nullptr, pass.size, pass.rows, pass.memory.joined);
    float* to = pass.memory.joined + pass.dims;
    for (std::size_t i = 0; i < pass.rows; ++i, to += pass.dims + pass.size) {
        for (std::size_t j = 0; j < pass.size; j += kLanes) {
            const std::size_t width = std::min(pass.size - j, kLanes), from = i * pass.size + j;
            Vector action = hyperbolic_tangent(load_part(outputs + from, width));
            if (noise) action = limited(action + load_part(noise + from, width), -1.0f, 1.0f);
            store_part(to + j, action, width);
        }
    }
}

struct Td3Actor {
    double loss, norm;
};

// eq. 3 of the paper: the gradient of `-mean(Q_1(s, tanh(actor(s))))`.
inline Td3Actor update_td3_actor(const TwinPass& pass, const float* observations) {
    const TwinMemory& memory = pass.memory;
    float* const mark = pass.workspace.mark();
    Trace trace, values_trace;
    const float* outputs =
        forward(pass.networks.actor, observations, pass.rows, trace, pass.workspace);
    join_tanh(pass, observations, outputs, nullptr);
    const float* values =
        forward(pass.networks.critic1, memory.joined, pass.rows, values_trace, pass.workspace);
    double total = 0.0;
    for (std::size_t i = 0; i < pass.rows; ++i) {
        total += static_cast<double>(values[i]);
        memory.slopes1[i] = -1.0f / static_cast<float>(pass.rows);
    }
    backward(pass.networks.critic1, memory.joined, pass.rows, values_trace, memory.slopes1,
             {nullptr, memory.of_actions1, pass.dims}, pass.workspace);
    const float* action = memory.joined + pass.dims;
    for (std::size_t i = 0; i < pass.rows; ++i, action += pass.dims + pass.size)
        for (std::size_t j = 0; j < pass.size; ++j)
            memory.of_actions1[i * pass.size + j] *= 1.0f - action[j] * action[j];
    const double loss = -total / static_cast<double>(pass.rows);
    const double norm = descend_actor(pass, observations, trace, memory.of_actions1, loss);
    pass.workspace.release(mark);
    return {loss, norm};
}

}  // namespace details

// Soft actor-critic (Haarnoja et al. 2018): for each batch an update of critics, actor and the
// entropy's weight; then the targets follow.
inline TwinSums sac(const TwinCritics& networks, float* log_alpha, Optimizer& alpha_optimizer,
                    const ReplayRows& all, double tau, Workspace& workspace) {
    const details::TwinPass pass = details::twin_pass(networks, all.batch, workspace);
    const Team::Call call(pass.team);
    const details::TwinMemory& memory = pass.memory;
    TwinSums sums{};
    for (std::size_t first = 0; first < all.rows; first += all.batch) {
        const details::Scope scope(pass);
        const float alpha = std::exp(*log_alpha);
        details::SacPolicy policy;
        details::sac_policy(pass, all, first, policy);
        details::sac_join(pass, all.next_observations + first * pass.dims, policy.next_outputs,
                          all.next_noise + first * pass.size);
        details::twin_targets(pass, all, first, alpha, memory.log_probs);
        const details::CriticUpdate critic = details::update_critics(pass, all, first);
        const details::SacActor actor = details::update_sac_actor(pass, all, first, policy, alpha);
        // eq. 18; the target is minus the number of components.
        const double short_of = -actor.entropy - static_cast<double>(pass.size);
        const double slope = -static_cast<double>(alpha) * short_of;
        *memory.slopes1 = static_cast<float>(slope);
        const std::size_t one = 1;
        const double moved =
            descend(alpha_optimizer, {memory.slopes1, &one, &one, 1}, details::kUnlimited, slope);
        details::targets_follow(pass, tau);
        ++sums.updates;
        if (std::isnan(critic.norm) || std::isnan(actor.norm) || std::isnan(moved)) {
            ++sums.skipped;
            continue;
        }
        sums.actor_loss += actor.loss;
        sums.critic_loss += critic.loss;
        sums.grad_norm += critic.norm;
        sums.alpha += static_cast<double>(alpha);
        sums.entropy += actor.entropy;
    }
    return sums;
}

// Twin delayed deterministic policy gradient (Fujimoto et al. 2018, algorithm 1). `next_noise` is
// that of the targets, limited.
inline TwinSums td3(const TwinCritics& networks, const ReplayRows& all, const Td3Settings& settings,
                    Workspace& workspace) {
    const details::TwinPass pass = details::twin_pass(networks, all.batch, workspace);
    const Team::Call call(pass.team);
    TwinSums sums{};
    std::size_t until_actor = settings.until_actor;
    for (std::size_t first = 0; first < all.rows; first += all.batch) {
        float* const mark = workspace.mark();
        const float* next = all.next_observations + first * pass.dims;
        Trace trace;
        const float* outputs = forward(settings.target_actor, next, pass.rows, trace, workspace);
        details::join_tanh(pass, next, outputs, all.next_noise + first * pass.size);
        workspace.release(mark);
        details::twin_targets(pass, all, first, 0.0f, nullptr);
        const details::CriticUpdate critic = details::update_critics(pass, all, first);
        details::Td3Actor actor = {0.0, 0.0};
        const bool moves_actor = --until_actor == 0;
        if (moves_actor) {
            until_actor = settings.delay;
            actor = details::update_td3_actor(pass, all.observations + first * pass.dims);
            details::targets_follow(pass, settings.tau);
            blend(settings.target_actor, networks.actor, settings.tau);
        }
        const bool is_whole = !std::isnan(critic.norm) && !std::isnan(actor.norm);
        ++sums.updates;
        if (moves_actor) ++sums.actor_updates;
        if (!is_whole) {
            ++sums.skipped;
            if (moves_actor) ++sums.actor_skipped;
            continue;
        }
        sums.actor_loss += actor.loss;
        sums.critic_loss += critic.loss;
        sums.grad_norm += critic.norm;
    }
    return sums;
}

}  // namespace TENSOR_OPTIX_ISA
}  // namespace tensor_optix
