// What the engine is told: perceptrons, optimizers and batches, all of it memory of the caller. The
// functions are compiled for several instruction sets; `engine()` returns those of this machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace tensor_optix {

enum class Activation : int { kIdentity, kTanh, kRelu, kElu, kSilu };

struct Layer {
    float* weight;
    float* bias;  // null: none
    std::size_t inputs;
    std::size_t outputs;
    bool is_by_outputs;  // the weight is [outputs, inputs], as in PyTorch; else [inputs, outputs]
    Activation activation;
};

constexpr std::size_t kMostLayers = 16;

struct Network {
    std::vector<Layer> layers;  // at most kMostLayers

    std::size_t inputs() const {
        return layers.front().inputs;
    }
    std::size_t outputs() const {
        return layers.back().outputs;
    }
};

enum class Rule : int {
    kAdam,       // PyTorch's: epsilon beside the corrected root
    kKerasAdam,  // Keras's: epsilon beside the root as it is
    kSgd,
};

// The weights of a network's layers in order, each followed by its bias.
struct Leaf {
    float* values;
    float* first;   // the mean of gradients, or SGD's momentum; null: none
    float* second;  // the mean of squares; null: none
    float* step;    // how many steps were made; null: `Optimizer::step` counts for all
    std::size_t size;
};

struct Optimizer {
    Rule rule;
    double rate;
    double beta1;  // SGD: momentum
    double beta2;
    double epsilon;
    double decay;       // of weights
    bool is_decoupled;  // whether it is AdamW's decay
    bool is_nesterov;
    std::int64_t* step;  // null: leaves count
    std::vector<Leaf> leaves;
};

class Team;

// Memory that grows to what the largest call needs and is then used again.
class Workspace {
  public:
    explicit Workspace(std::size_t threads = 1);
    ~Workspace();
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    // Null: there is one thread only.
    Team* team() const {
        return team_.get();
    }
    // That of the second thread; without one, this is it itself.
    Workspace& second() {
        return second_ ? *second_ : *this;
    }
    void begin(std::size_t floats);  // what was taken before is given back

    float* take(std::size_t floats) {
        float* taken = next_;
        next_ += rounded(floats);
        return taken;
    }
    float* mark() const {
        return next_;
    }
    void release(float* mark) {
        next_ = mark;
    }
    static constexpr std::size_t rounded(std::size_t floats) {
        return (floats + kAlignment - 1) / kAlignment * kAlignment;
    }

  private:
    static constexpr std::size_t kAlignment = 16;
    std::vector<float> memory_;
    float* next_ = nullptr;
    std::unique_ptr<Team> team_;
    std::unique_ptr<Workspace> second_;
};

enum class Policy : int { kCategorical, kSquashedGaussian };

// Of one update, or summed over those that were made.
struct PpoSums {
    double policy_loss, value_loss, entropy, approx_kl, grad_norm;
    std::size_t updates, skipped;
};

struct PpoBatch {
    const float* observations;    // [R, D]
    const std::int64_t* choices;  // [R, K]; null where actions are continuous
    const float* actions;         // [R, A] before the tanh; null where they are choices
    const std::uint8_t* masks;    // [R, outputs]; null: all are allowed
    const float* log_probs;       // [R]
    const float* advantages;      // [R]
    const float* returns;         // [R]
    std::size_t rows;
};

struct PpoSettings {
    std::vector<std::size_t> counts;  // of each choice
    std::size_t minibatch;
    double clip_ratio, vf_coef, entropy_coef, max_grad_norm;
};

// Batches of a replay side by side, all of the same size.
struct ReplayRows {
    const float* observations;       // [R, D]
    const std::int64_t* choices;     // [R]; null where actions are continuous
    const float* actions;            // [R, A]; null where they are choices
    const float* rewards;            // [R]
    const float* next_observations;  // [R, D]
    const float* discounts;          // [R], 0 where nothing follows
    const float* weights;            // [R]
    const std::uint8_t* next_masks;  // [R, outputs]; null: all are allowed
    const float* noise;              // [R, A], of the policy's actions; null where it has none
    const float* next_noise;         // [R, A], of those at the next observations
    float* td_errors;                // [R], written; NaN where the update was left out
    std::size_t rows;
    std::size_t batch;
};

struct DqnSums {
    double loss, td_error_mean, grad_norm;
    std::size_t updates, skipped;
};

// An actor of continuous actions, two critics and what makes their targets.
struct TwinCritics {
    const Network &actor, &critic1, &critic2, &target1, &target2;
    Optimizer &actor_optimizer, &critic_optimizer;
};

struct TwinSums {
    double actor_loss, critic_loss, grad_norm, alpha, entropy;
    std::size_t updates, skipped;
    std::size_t actor_updates, actor_skipped;
};

struct Td3Settings {
    const Network& target_actor;
    double tau;
    std::size_t until_actor;  // which of the updates is the first that moves the actor, from 1 on
    std::size_t delay;        // updates from one of these to the next
};

struct GradientBatch {
    const float* observations;    // [R, D]
    const std::int64_t* choices;  // [R]
    const float* targets;         // [R]
    std::size_t rows;
};

struct GradientSums {
    double loss, grad_norm;
    std::size_t updates, skipped;
};

struct Engine {
    const char* instructions;
    void (*product)(const float* left, bool left_transposed, const float* right,
                    bool right_transposed, const float* bias, std::size_t rows, std::size_t columns,
                    std::size_t depth, float* result, Workspace& workspace);
    void (*forward)(const Network& network, const float* inputs, std::size_t rows, float* outputs,
                    Workspace& workspace);
    void (*log_probs)(const Network& actor, const PpoBatch& batch,
                      const std::vector<std::size_t>& counts, float* log_probs,
                      Workspace& workspace);
    PpoSums (*ppo)(const Network& actor, const Network& critic, Optimizer& optimizer,
                   const PpoBatch& batch, const PpoSettings& settings, Workspace& workspace);
    DqnSums (*dqn)(const Network& network, const Network& target, Optimizer& optimizer,
                   const ReplayRows& rows, double max_grad_norm, Workspace& workspace);
    TwinSums (*sac)(const TwinCritics& networks, float* log_alpha, Optimizer& alpha_optimizer,
                    const ReplayRows& rows, double tau, Workspace& workspace);
    TwinSums (*td3)(const TwinCritics& networks, const ReplayRows& rows,
                    const Td3Settings& settings, Workspace& workspace);
    GradientSums (*policy_gradient)(const Network& network, Optimizer& optimizer,
                                    const GradientBatch& batch, Workspace& workspace);
    void (*blend)(const Network& target, const Network& source, double rate);
};

// The best that this machine runs, or what the environment's TENSOR_OPTIX_ENGINE asks for. Throws
// std::invalid_argument where the machine does not run that.
const Engine& engine();

}  // namespace tensor_optix
