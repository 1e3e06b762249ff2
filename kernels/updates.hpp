// Whole updates: minibatches come in, the caller's weights and moments change, sums of diagnostics go out.
#pragma once

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

// Makes one update with the rows from `first` on.
inline void ppo_update(const PpoPass& pass, Optimizer& optimizer, std::size_t first, std::size_t rows,
                       Workspace& workspace, PpoSums& sums) {
    const PpoBatch& batch = pass.batch;
    const PpoSettings& settings = pass.settings;
    const float* observations = batch.observations + first * pass.actor.inputs();
    const std::size_t logits = pass.actor.outputs();
    const std::uint8_t* masks = batch.masks ? batch.masks + first * logits : nullptr;
    float* const mark = workspace.mark();
    Trace trace;
    float* const outputs = forward(pass.actor, observations, rows, trace, workspace);
    const float bonus = static_cast<float>(settings.entropy_coef / static_cast<double>(rows));
    const std::int64_t* choices = batch.choices ? batch.choices + first * pass.choices.choices : nullptr;
    const float* actions = batch.actions ? batch.actions + first * pass.action_dim : nullptr;
    // The last layer's outputs are its pass's own when its activation is none: a copy becomes the gradient.
    float* const slopes = workspace.take(rows * logits);
    std::copy(outputs, outputs + rows * logits, slopes);
    if (masks) mask(slopes, masks, rows * logits);
    if (choices) {
        log_softmax(pass.choices, rows, slopes, pass.probs);
        choice_log_probs(pass.choices, slopes, choices, rows, pass.log_probs);
    } else {
        squashed_log_probs(slopes, actions, rows, pass.action_dim, pass.log_probs);
    }
    const Surrogate found = surrogate(batch.log_probs + first, batch.advantages + first,
                                      static_cast<float>(settings.clip_ratio), rows, pass.log_probs);
    const double entropies =
        choices ? choice_gradients(pass.choices, pass.probs, choices, pass.log_probs, bonus, rows, masks,
                                   slopes)
                : squashed_gradients(actions, pass.log_probs, bonus, rows, pass.action_dim, slopes);
    backward(pass.actor, observations, rows, trace, slopes, {pass.gradients, nullptr, 0}, workspace);
    workspace.release(mark);
    const std::size_t sizes[2] = {num_weights(pass.actor), num_weights(pass.critic)};
    float* const values = forward(pass.critic, observations, rows, trace, workspace);
    float* const errors = workspace.take(rows);
    std::copy(values, values + rows, errors);
    const double squares =
        squared_errors(batch.returns + first, static_cast<float>(settings.vf_coef), rows, errors);
    backward(pass.critic, observations, rows, trace, errors, {pass.gradients + sizes[0], nullptr, 0},
             workspace);
    workspace.release(mark);
    const double share = 1.0 / static_cast<double>(rows);
    const double policy_loss = found.policy_loss * share, value_loss = squares * share;
    const double entropy = entropies * share;
    const double loss = policy_loss + settings.vf_coef * value_loss - settings.entropy_coef * entropy;
    const std::size_t leaves[2] = {num_leaves(pass.actor), num_leaves(pass.critic)};
    const double norm =
        descend(optimizer, {pass.gradients, sizes, leaves, 2}, settings.max_grad_norm, loss);
    ++sums.updates;
    if (std::isnan(norm)) {
        ++sums.skipped;
        return;
    }
    sums.policy_loss += policy_loss;
    sums.value_loss += value_loss;
    sums.entropy += entropy;
    sums.approx_kl += found.approx_kl * share;
    sums.grad_norm += norm;
}

}  // namespace details

// Makes updates with consecutive minibatches; the last may be short.
inline PpoSums ppo(const Network& actor, const Network& critic, Optimizer& optimizer,
                   const PpoBatch& batch, const PpoSettings& settings, Workspace& workspace) {
    const std::size_t most = std::min(settings.minibatch, batch.rows), logits = actor.outputs();
    const std::size_t weights = num_weights(actor) + num_weights(critic);
    workspace.begin(Workspace::rounded(weights) + 2 * Workspace::rounded(most * logits) +
                    2 * Workspace::rounded(most) + floats_of_passes(actor, most) +
                    floats_of_passes(critic, most) + Workspace::rounded(kPacked) * 2);
    float* const gradients = workspace.take(weights);
    float* const log_probs = workspace.take(most);
    float* const probs = workspace.take(most * logits);
    const details::PpoPass pass = {actor, critic, batch, settings, Choices::of(settings.counts),
                                   logits / 2, gradients, log_probs, probs};
    PpoSums sums{};
    for (std::size_t first = 0; first < batch.rows; first += settings.minibatch)
        details::ppo_update(pass, optimizer, first, std::min(settings.minibatch, batch.rows - first),
                            workspace, sums);
    return sums;
}

}  // namespace TENSOR_OPTIX_ISA
}  // namespace tensor_optix
