// Whole updates: minibatches come in, the caller's weights and moments change, sums of diagnostics
// go out.
#pragma once

#include <limits>

#include "descent.hpp"
#include "losses.hpp"

namespace tensor_optix {
namespace TENSOR_OPTIX_ISA {

namespace details {

inline std::size_t num_leaves(const Network& network) {
    std::size_t count = 0;
    for (const Layer& layer : network.layers) count += layer.bias ? 2 : 1;
    return count;
}

struct PpoPass {
    const Network &actor, &critic;
    const PpoBatch& batch;
    const PpoSettings& settings;
    Choices choices;
    std::size_t action_dim;
    float *gradients, *log_probs, *probs;
};

struct ActorPart {
    Surrogate surrogate;
    double entropies;
};

// Writes the gradients of the actor, of the rows from `first` on.
inline ActorPart ppo_actor(const PpoPass& pass, std::size_t first, std::size_t rows,
                           Workspace& workspace) {
    const PpoBatch& batch = pass.batch;
    const float* observations = batch.observations + first * pass.actor.inputs();
    const std::size_t logits = pass.actor.outputs();
    const std::uint8_t* masks = batch.masks ? batch.masks + first * logits : nullptr;
    const std::int64_t* choices =
        batch.choices ? batch.choices + first * pass.choices.choices : nullptr;
    const float* actions = batch.actions ? batch.actions + first * pass.action_dim : nullptr;
    const double bonus = pass.settings.entropy_coef / static_cast<double>(rows);
    float* const mark = workspace.mark();
    Trace trace;
    const float* outputs = forward(pass.actor, observations, rows, trace, workspace);
    // The trace's outputs stay, for the pass backward: a copy becomes the gradient.
    float* const slopes = workspace.take(rows * logits);
    std::copy(outputs, outputs + rows * logits, slopes);
    if (masks) mask(slopes, masks, rows * logits);
    if (choices) {
        log_softmax(pass.choices, rows, slopes, pass.probs);
        choice_log_probs(pass.choices, slopes, choices, rows, pass.log_probs);
    } else {
        squashed_log_probs(slopes, actions, rows, pass.action_dim, pass.log_probs);
    }
    const Surrogate found =
        surrogate(batch.log_probs + first, batch.advantages + first,
                  static_cast<float>(pass.settings.clip_ratio), rows, pass.log_probs);
    const double entropies =
        choices ? choice_gradients(pass.choices, pass.probs, choices, pass.log_probs,
                                   static_cast<float>(bonus), rows, masks, slopes)
                : squashed_gradients(actions, pass.log_probs, static_cast<float>(bonus), rows,
                                     pass.action_dim, slopes);
    backward(pass.actor, observations, rows, trace, slopes, {pass.gradients, nullptr, 0},
             workspace);
    workspace.release(mark);
    return {found, entropies};
}

// Writes the gradients of the critic; returns the sum of squared errors.
inline double ppo_critic(const PpoPass& pass, std::size_t first, std::size_t rows,
                         Workspace& workspace) {
    const float* observations = pass.batch.observations + first * pass.critic.inputs();
    float* const mark = workspace.mark();
    Trace trace;
    const float* values = forward(pass.critic, observations, rows, trace, workspace);
    float* const errors = workspace.take(rows);
    std::copy(values, values + rows, errors);
    const double squares = squared_errors(pass.batch.returns + first,
                                          static_cast<float>(pass.settings.vf_coef), rows, errors);
    backward(pass.critic, observations, rows, trace, errors,
             {pass.gradients + num_weights(pass.actor), nullptr, 0}, workspace);
    workspace.release(mark);
    return squares;
}

// Makes one update with the rows from `first` on.
inline void ppo_update(const PpoPass& pass, Optimizer& optimizer, std::size_t first,
                       std::size_t rows, Workspace& workspace, PpoSums& sums) {
    const PpoSettings& settings = pass.settings;
    ActorPart actor;
    double squares;
    both(
        workspace.team(), [&] { actor = ppo_actor(pass, first, rows, workspace); },
        [&] { squares = ppo_critic(pass, first, rows, workspace.second()); });
    const double share = 1.0 / static_cast<double>(rows);
    const double policy_loss = actor.surrogate.policy_loss * share, value_loss = squares * share;
    const double entropy = actor.entropies * share;
    const double loss =
        policy_loss + settings.vf_coef * value_loss - settings.entropy_coef * entropy;
    const std::size_t sizes[2] = {num_weights(pass.actor), num_weights(pass.critic)};
    const std::size_t leaves[2] = {num_leaves(pass.actor), num_leaves(pass.critic)};
    const double norm = descend(optimizer, {pass.gradients, sizes, leaves, 2},
                                settings.max_grad_norm, loss, workspace.team());
    ++sums.updates;
    if (std::isnan(norm)) {
        ++sums.skipped;
        return;
    }
    sums.policy_loss += policy_loss;
    sums.value_loss += value_loss;
    sums.entropy += entropy;
    sums.approx_kl += actor.surrogate.approx_kl * share;
    sums.grad_norm += norm;
}

}  // namespace details

// The log-probabilities [R] of a batch's actions, of which the fields behind the masks are not
// looked at.
inline void log_probs(const Network& actor, const PpoBatch& batch,
                      const std::vector<std::size_t>& counts, float* found, Workspace& workspace) {
    constexpr std::size_t kMostRows = 512;  // whose activations stay in the caches
    const std::size_t most = std::min(kMostRows, batch.rows), logits = actor.outputs();
    const Choices choices = Choices::of(counts);
    workspace.begin(floats_of_passes(actor, most) + Workspace::rounded(most * logits));
    float* const probs = workspace.take(most * logits);
    for (std::size_t first = 0; first < batch.rows; first += kMostRows) {
        const std::size_t rows = std::min(kMostRows, batch.rows - first);
        float* const mark = workspace.mark();
        Trace trace;
        const float* observations = batch.observations + first * actor.inputs();
        float* const outputs = forward(actor, observations, rows, trace, workspace);
        if (batch.choices) {
            if (batch.masks) mask(outputs, batch.masks + first * logits, rows * logits);
            log_softmax(choices, rows, outputs, probs);
            choice_log_probs(choices, outputs, batch.choices + first * choices.choices, rows,
                             found + first);
        } else {
            squashed_log_probs(outputs, batch.actions + first * (logits / 2), rows, logits / 2,
                               found + first);
        }
        workspace.release(mark);
    }
}

// Makes updates with consecutive minibatches; the last may be short.
inline PpoSums ppo(const Network& actor, const Network& critic, Optimizer& optimizer,
                   const PpoBatch& batch, const PpoSettings& settings, Workspace& workspace) {
    const std::size_t most = std::min(settings.minibatch, batch.rows), logits = actor.outputs();
    const std::size_t weights = num_weights(actor) + num_weights(critic);
    workspace.begin(Workspace::rounded(weights) + 2 * Workspace::rounded(most * logits) +
                    2 * Workspace::rounded(most) + floats_of_passes(actor, most) +
                    floats_of_passes(critic, most) + Workspace::rounded(kPacked) * 2);
    if (workspace.team())
        workspace.second().begin(floats_of_passes(critic, most) + 2 * Workspace::rounded(most));
    const Team::Call call(workspace.team());
    float* const gradients = workspace.take(weights);
    float* const log_probs = workspace.take(most);
    float* const probs = workspace.take(most * logits);
    const details::PpoPass pass = {
        actor,      critic,    batch,     settings, Choices::of(settings.counts),
        logits / 2, gradients, log_probs, probs};
    PpoSums sums{};
    for (std::size_t first = 0; first < batch.rows; first += settings.minibatch)
        details::ppo_update(pass, optimizer, first,
                            std::min(settings.minibatch, batch.rows - first), workspace, sums);
    return sums;
}

// Deep Q-learning (Mnih et al. 2015, algorithm 1): one update for each batch.
inline DqnSums dqn(const Network& network, const Network& target, Optimizer& optimizer,
                   const ReplayRows& all, double max_grad_norm, Workspace& workspace) {
    const std::size_t rows = all.batch, actions = network.outputs(), weights = num_weights(network);
    workspace.begin(Workspace::rounded(weights) + 2 * Workspace::rounded(rows) +
                    Workspace::rounded(rows * actions) + 2 * floats_of_passes(network, rows));
    float* const gradients = workspace.take(weights);
    float* const targets = workspace.take(rows);
    float* const chosen = workspace.take(rows);
    const std::size_t leaves = details::num_leaves(network);
    const double share = 1.0 / static_cast<double>(rows);
    DqnSums sums{};
    for (std::size_t first = 0; first < all.rows; first += rows) {
        float* const mark = workspace.mark();
        Trace trace;
        const float* next = all.next_observations + first * network.inputs();
        const std::uint8_t* masks = all.next_masks ? all.next_masks + first * actions : nullptr;
        largest_values(forward(target, next, rows, trace, workspace), masks, rows, actions,
                       targets);
        for (std::size_t i = 0; i < rows; ++i)
            targets[i] = all.rewards[first + i] + all.discounts[first + i] * targets[i];
        workspace.release(mark);
        const float* observations = all.observations + first * network.inputs();
        const float* values = forward(network, observations, rows, trace, workspace);
        const std::int64_t* choices = all.choices + first;
        for (std::size_t i = 0; i < rows; ++i)
            chosen[i] = values[i * actions + static_cast<std::size_t>(choices[i])];
        const TdErrors found =
            td_errors(targets, all.weights + first, rows, chosen, all.td_errors + first);
        float* const slopes = workspace.take(rows * actions);
        std::fill(slopes, slopes + rows * actions, 0.0f);
        for (std::size_t i = 0; i < rows; ++i)
            slopes[i * actions + static_cast<std::size_t>(choices[i])] = chosen[i];
        backward(network, observations, rows, trace, slopes, {gradients, nullptr, 0}, workspace);
        workspace.release(mark);
        const double loss = found.squares * share;
        const double norm =
            descend(optimizer, {gradients, &weights, &leaves, 1}, max_grad_norm, loss);
        ++sums.updates;
        if (std::isnan(norm)) {
            ++sums.skipped;
            std::fill(all.td_errors + first, all.td_errors + first + rows, std::nanf(""));
            continue;
        }
        sums.loss += loss;
        sums.td_error_mean += found.sizes * share;
        sums.grad_norm += norm;
    }
    return sums;
}

// The plain policy gradient (Williams 1992) of discrete actions: one update with all rows.
inline GradientSums policy_gradient(const Network& network, Optimizer& optimizer,
                                    const GradientBatch& batch, Workspace& workspace) {
    const std::size_t rows = batch.rows, actions = network.outputs(),
                      weights = num_weights(network);
    workspace.begin(Workspace::rounded(weights) + 2 * Workspace::rounded(rows) +
                    2 * Workspace::rounded(rows * actions) + floats_of_passes(network, rows) +
                    Workspace::rounded(kPacked));
    float* const gradients = workspace.take(weights);
    float* const slopes = workspace.take(rows * actions);
    float* const probs = workspace.take(rows * actions);
    float* const log_probs = workspace.take(rows);
    float* const weighted = workspace.take(rows);
    const Choices choices = {&actions, 1, actions};
    Trace trace;
    const float* logits = forward(network, batch.observations, rows, trace, workspace);
    std::copy(logits, logits + rows * actions, slopes);
    log_softmax(choices, rows, slopes, probs);
    choice_log_probs(choices, slopes, batch.choices, rows, log_probs);
    double loss = 0.0;
    const double share = 1.0 / static_cast<double>(rows);
    for (std::size_t i = 0; i < rows; ++i) {
        loss -= static_cast<double>(log_probs[i] * batch.targets[i]);
        weighted[i] = -batch.targets[i] * static_cast<float>(share);
    }
    loss *= share;
    choice_gradients(choices, probs, batch.choices, weighted, 0.0f, rows, nullptr, slopes);
    backward(network, batch.observations, rows, trace, slopes, {gradients, nullptr, 0}, workspace);
    const std::size_t leaves = details::num_leaves(network);
    const double none = std::numeric_limits<double>::infinity();
    const double norm = descend(optimizer, {gradients, &weights, &leaves, 1}, none, loss);
    if (std::isnan(norm)) return {0.0, 0.0, 1, 1};
    return {loss, norm, 1, 0};
}

}  // namespace TENSOR_OPTIX_ISA
}  // namespace tensor_optix
