/*
 * nunatak.hpp: nunatak.h for C++17. Trainers release themselves, errors are exceptions, buffers have their lengths.
 *
 *   nunatak::Recipe recipe = nunatak::resnet18(10);
 *   nunatak::Config config = nunatak::config(recipe, 8, 64, 64);
 *   nunatak::Trainer trainer(config);                       in memory of its own, or of yours
 *   trainer.load(file.data(), file.size(), NUNATAK_HEAD_KEEP);
 *   trainer.draw_head(random);
 *   trainer.set_sgd(nunatak::sgd(0.01f));
 *   trainer.set_images(images);
 *   trainer.set_labels(labels);
 *   float loss = trainer.step();
 *
 * What a function does, and which statuses it may have, stands at the function of the same name in nunatak.h. There is
 * nothing here that can't be done with nunatak.h; both can be mixed (`Trainer::get`).
 */
#ifndef NUNATAK_HPP
#define NUNATAK_HPP

#include <nunatak.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace nunatak {

using Status = nunatak_status;
using Recipe = nunatak_recipe;
using Config = nunatak_config;
using Sgd = nunatak_sgd;
using Schedule = nunatak_schedule;
using Shape = nunatak_shape;

/// A status other than NUNATAK_OK, with the library's text and, where two numbers disagreed, both.
class Error : public std::runtime_error {
 public:
  explicit Error(Status status)
      : std::runtime_error(std::string(nunatak_status_name(static_cast<std::int32_t>(status))) + ": " + nunatak_last_error()),
        status_(status) {
    has_numbers_ = nunatak_last_error_numbers(&expected_, &got_) == 1;
  }

  Status status() const noexcept { return status_; }
  /// Whether `expected` and `got` mean anything.
  bool has_numbers() const noexcept { return has_numbers_; }
  std::int64_t expected() const noexcept { return expected_; }
  std::int64_t got() const noexcept { return got_; }

 private:
  Status status_;
  bool has_numbers_ = false;
  std::int64_t expected_ = 0, got_ = 0;
};

/// Throws an `Error` unless the status is NUNATAK_OK.
inline void check(Status status) {
  if (status != NUNATAK_OK) throw Error(status);
}

inline Recipe resnet18(std::size_t classes) {
  Recipe recipe;
  check(nunatak_recipe_resnet18(classes, sizeof recipe, &recipe));
  return recipe;
}

inline Recipe resnet34(std::size_t classes) {
  Recipe recipe;
  check(nunatak_recipe_resnet34(classes, sizeof recipe, &recipe));
  return recipe;
}

inline Recipe resnet8(std::size_t classes) {
  Recipe recipe;
  check(nunatak_recipe_resnet8(classes, sizeof recipe, &recipe));
  return recipe;
}

/// The network that a file is of.
inline Recipe recipe_of_file(const void *file, std::size_t bytes) {
  Recipe recipe;
  check(nunatak_recipe_of_file(file, bytes, sizeof recipe, &recipe));
  return recipe;
}

/// A config with defaults: change what you want.
inline Config config(const Recipe &recipe, std::size_t batch, std::size_t height, std::size_t width) {
  Config config;
  check(nunatak_config_default(&recipe, batch, height, width, sizeof config, &config));
  return config;
}

inline Sgd sgd(float lr, float momentum = 0, float weight_decay = 0) {
  Sgd sgd;
  check(nunatak_sgd_default(lr, sizeof sgd, &sgd));
  sgd.momentum = momentum;
  sgd.weight_decay = weight_decay;
  return sgd;
}

inline Schedule schedule(std::uint32_t kind) {
  Schedule schedule;
  check(nunatak_schedule_default(kind, sizeof schedule, &schedule));
  return schedule;
}

inline float factor(const Schedule &schedule, std::uint64_t unit) {
  float factor = 0;
  check(nunatak_schedule_factor(&schedule, unit, &factor));
  return factor;
}

inline std::size_t required_bytes(const Config &config) {
  std::size_t bytes = 0;
  check(nunatak_trainer_required_bytes(&config, &bytes));
  return bytes;
}

inline std::string plan_text(const Config &config) {
  std::size_t bytes = 0;
  check(nunatak_plan_text_bytes(&config, &bytes));
  std::string text(bytes, '\0');
  check(nunatak_plan_text(&config, &text[0], bytes));
  text.pop_back();
  return text;
}

/// A planned step as bytes.
inline std::vector<unsigned char> program(const Config &config) {
  unsigned char none = 0;
  std::size_t bytes = 0;
  const Status asked = nunatak_program_from_config(&config, &none, 0, &bytes);
  if (asked != NUNATAK_BUFFER_TOO_SMALL) check(asked);
  std::vector<unsigned char> program(bytes);
  check(nunatak_program_from_config(&config, program.data(), bytes, &bytes));
  return program;
}

/// Started threads, for as long as it lives.
class Threads {
 public:
  explicit Threads(std::size_t count) : count_(count) { check(nunatak_threads_start(count)); }
  ~Threads() {
    if (count_ > 0) (void)nunatak_threads_stop(count_);
  }
  Threads(Threads &&other) noexcept : count_(std::exchange(other.count_, 0)) {}
  Threads &operator=(Threads &&other) noexcept {
    std::swap(count_, other.count_);
    return *this;
  }
  Threads(const Threads &) = delete;
  Threads &operator=(const Threads &) = delete;

 private:
  std::size_t count_;
};

/// PyTorch's generator.
class Random {
 public:
  explicit Random(std::uint64_t seed) { check(nunatak_random_seed(&random_, sizeof random_, seed)); }
  void uniform(float low, float high, float *out, std::size_t count) {
    check(nunatak_random_uniform(&random_, low, high, out, count));
  }
  std::vector<std::uint32_t> permutation(std::size_t count) {
    std::vector<std::uint32_t> out(count);
    if (count > 0) check(nunatak_random_permutation(&random_, out.data(), count));
    return out;
  }
  nunatak_random *get() noexcept { return &random_; }

 private:
  nunatak_random random_;
};

/// A trainer, which is released when it goes.
class Trainer {
 public:
  /// In memory of its own.
  explicit Trainer(const Config &config) : Trainer(config, required_bytes(config)) {}
  /// In so many bytes of its own: for configs that it will be switched to, which may need more.
  Trainer(const Config &config, std::size_t bytes) : own_(new unsigned char[bytes]), state_(new State) {
    check(nunatak_trainer_init(&config, own_.get(), bytes, &trainer_));
  }
  /// In memory that must outlive it.
  Trainer(const Config &config, void *memory, std::size_t bytes) : state_(new State) {
    check(nunatak_trainer_init(&config, memory, bytes, &trainer_));
  }
  ~Trainer() { release(); }
  Trainer(Trainer &&other) noexcept
      : own_(std::move(other.own_)), state_(std::move(other.state_)), trainer_(std::exchange(other.trainer_, nullptr)) {}
  Trainer &operator=(Trainer &&other) noexcept {
    if (this != &other) {
      release();
      own_ = std::move(other.own_);
      state_ = std::move(other.state_);
      trainer_ = std::exchange(other.trainer_, nullptr);
    }
    return *this;
  }
  Trainer(const Trainer &) = delete;
  Trainer &operator=(const Trainer &) = delete;

  nunatak_trainer *get() const noexcept { return trainer_; }

  void switch_to(const Config &config) { check(nunatak_trainer_switch(trainer_, &config)); }
  /// A config of more classes: the rows of those that are there stay, new ones are drawn.
  void add_class(const Config &config, Random &random) {
    check(nunatak_trainer_add_class(trainer_, &config, NUNATAK_NEW_CLASS_DRAWN, random.get(), nullptr, 0));
  }
  void draw_weights(Random &random) { check(nunatak_trainer_draw_weights(trainer_, random.get())); }
  void draw_head(Random &random) { check(nunatak_trainer_draw_head(trainer_, random.get())); }

  void load(const void *file, std::size_t bytes, std::uint32_t head = NUNATAK_HEAD_LOAD) {
    check(nunatak_trainer_load(trainer_, file, bytes, head));
  }
  void load_momentum(const void *file, std::size_t bytes) { check(nunatak_trainer_load_momentum(trainer_, file, bytes)); }
  std::vector<unsigned char> save(std::uint32_t format = NUNATAK_SAFETENSORS) const {
    std::size_t bytes = 0;
    check(nunatak_trainer_saved_bytes(trainer_, format, &bytes));
    std::vector<unsigned char> file(bytes);
    check(nunatak_trainer_save(trainer_, format, file.data(), bytes, &bytes));
    return file;
  }

  void set_images(const float *images, std::size_t count) { check(nunatak_trainer_set_images(trainer_, images, count)); }
  void set_images(const std::vector<float> &images) { set_images(images.data(), images.size()); }
  void set_images(const std::uint8_t *pixels, std::size_t count, const float *mean, const float *deviation) {
    check(nunatak_trainer_set_images_u8(trainer_, pixels, count, mean, deviation));
  }
  void set_labels(const std::vector<std::int64_t> &labels) {
    check(nunatak_trainer_set_labels(trainer_, labels.data(), labels.size()));
  }
  void set_features(const std::vector<float> &features) {
    check(nunatak_trainer_set_features(trainer_, features.data(), features.size()));
  }
  void set_targets(const std::vector<float> &targets) {
    check(nunatak_trainer_set_targets(trainer_, targets.data(), targets.size()));
  }

  void set_sgd(const Sgd &sgd) { check(nunatak_trainer_set_sgd(trainer_, &sgd)); }
  void add_group(const std::string &names, const Sgd &sgd) { check(nunatak_trainer_add_group(trainer_, names.c_str(), &sgd)); }
  void set_rate(float factor) { check(nunatak_trainer_set_rate(trainer_, factor)); }

  void forward() { run(nunatak_trainer_forward(trainer_)); }
  void backward() { run(nunatak_trainer_backward(trainer_)); }
  void backward_from(const std::vector<float> &gradient) {
    run(nunatak_trainer_backward_from(trainer_, gradient.data(), gradient.size()));
  }
  /// One of several micro-batches: returns its loss. `update` ends the step.
  float accumulate(float share) {
    float loss = 0;
    run(nunatak_trainer_accumulate(trainer_, share, &loss));
    return loss;
  }
  void update() { run(nunatak_trainer_update(trainer_)); }
  /// Returns the loss before the update.
  float step() {
    float loss = 0;
    run(nunatak_trainer_step(trainer_, &loss));
    return loss;
  }
  bool was_updated(const std::string &name) const {
    std::uint32_t updated = 0;
    check(nunatak_trainer_was_updated(trainer_, name.c_str(), &updated));
    return updated == 1;
  }
  void zero_grad() { check(nunatak_trainer_zero_grad(trainer_)); }
  /// Returns what the norm was.
  float clip_grad_norm(float max_norm) {
    float norm = 0;
    check(nunatak_trainer_clip_grad_norm(trainer_, max_norm, &norm));
    return norm;
  }

  float loss() const {
    float loss = 0;
    check(nunatak_trainer_loss(trainer_, &loss));
    return loss;
  }
  /// `count` floats: batch x classes.
  std::vector<float> predictions(std::size_t count) const {
    std::vector<float> out(count);
    check(nunatak_trainer_predictions(trainer_, out.data(), count));
    return out;
  }
  std::vector<float> features(std::size_t count) const {
    std::vector<float> out(count);
    check(nunatak_trainer_features(trainer_, out.data(), count));
    return out;
  }
  std::vector<float> predict(std::size_t count) {
    std::vector<float> out(count);
    run(nunatak_trainer_predict(trainer_, out.data(), count));
    return out;
  }

  std::vector<std::string> tensor_names() const {
    std::size_t count = 0;
    check(nunatak_trainer_tensor_count(trainer_, &count));
    std::vector<std::string> names;
    for (std::size_t i = 0; i < count; i++) {
      char name[NUNATAK_NAME_BYTES];
      check(nunatak_trainer_tensor_name(trainer_, i, name, sizeof name));
      names.emplace_back(name);
    }
    return names;
  }
  Shape shape(const std::string &name) const {
    Shape shape;
    check(nunatak_trainer_tensor_shape(trainer_, name.c_str(), sizeof shape, &shape));
    return shape;
  }
  std::vector<float> tensor(const std::string &name) const { return get_floats(nunatak_trainer_get_tensor, name); }
  std::vector<float> gradient(const std::string &name) const { return get_floats(nunatak_trainer_get_gradient, name); }
  std::vector<float> momentum(const std::string &name) const { return get_floats(nunatak_trainer_get_momentum, name); }
  void set_tensor(const std::string &name, const std::vector<float> &numbers) {
    check(nunatak_trainer_set_tensor(trainer_, name.c_str(), numbers.data(), numbers.size()));
  }
  void set_gradient(const std::string &name, const std::vector<float> &numbers) {
    check(nunatak_trainer_set_gradient(trainer_, name.c_str(), numbers.data(), numbers.size()));
  }
  void set_momentum(const std::string &name, const std::vector<float> &numbers) {
    check(nunatak_trainer_set_momentum(trainer_, name.c_str(), numbers.data(), numbers.size()));
  }
  std::int64_t batches(const std::string &name) const {
    std::int64_t batches = 0;
    check(nunatak_trainer_get_batches(trainer_, name.c_str(), &batches));
    return batches;
  }

  /// Told after each kernel call how many of how many are done; returns whether to go on. An exception that leaves it
  /// ends the step as a stop does, and comes out of the call that computed.
  void on_progress(std::function<bool(std::size_t done, std::size_t total)> progress) {
    state_->progress = std::move(progress);
    const bool wanted = static_cast<bool>(state_->progress);
    check(nunatak_trainer_on_progress(trainer_, wanted ? &Trainer::told : nullptr, state_.get()));
  }

 private:
  struct State {
    std::function<bool(std::size_t, std::size_t)> progress;
    std::exception_ptr thrown;
  };

  static int told(void *user, std::size_t done, std::size_t total) noexcept {
    State &state = *static_cast<State *>(user);
    try {
      return !state.thrown && state.progress(done, total) ? 0 : 1;
    } catch (...) {
      state.thrown = std::current_exception();
      return 1;
    }
  }

  /// The status of a call that may have told of progress.
  void run(Status status) {
    if (state_->thrown) std::rethrow_exception(std::exchange(state_->thrown, nullptr));
    check(status);
  }

  template <class Get>
  std::vector<float> get_floats(Get get, const std::string &name) const {
    const Shape of = shape(name);
    std::vector<float> out(of.sizes[0] * of.sizes[1] * of.sizes[2] * of.sizes[3]);
    check(get(trainer_, name.c_str(), out.data(), out.size()));
    return out;
  }

  void release() noexcept {
    if (trainer_ != nullptr) (void)nunatak_trainer_release(std::exchange(trainer_, nullptr));
  }

  std::unique_ptr<unsigned char[]> own_;
  std::unique_ptr<State> state_;
  nunatak_trainer *trainer_ = nullptr;
};

}  // namespace nunatak

#endif  // NUNATAK_HPP
