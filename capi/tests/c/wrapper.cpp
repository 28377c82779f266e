/* nunatak.hpp: the same numbers as nunatak.h, statuses as exceptions, and exceptions past the library. */
#include <nunatak.hpp>

#include <cstdio>
#include <cstring>
#include <utility>

static int failures;
#define TRUE(condition)                                                                              \
  do {                                                                                               \
    if (!(condition)) {                                                                              \
      std::fprintf(stderr, "%d: not so: %s (%s)\n", __LINE__, #condition, nunatak_last_error());     \
      failures++;                                                                                    \
    }                                                                                                \
  } while (0)

struct Own {};

template <class F>
static nunatak_status status_of(F f) {
  try {
    f();
  } catch (const nunatak::Error &e) {
    TRUE(std::strstr(e.what(), nunatak_status_name(static_cast<std::int32_t>(e.status()))) == e.what());
    return e.status();
  }
  return NUNATAK_OK;
}

int main() {
  const std::size_t batch = 2, size = 16, classes = 10, pixels = batch * 3 * size * size;
  nunatak::Config config = nunatak::config(nunatak::resnet8(classes), batch, size, size);
  nunatak::Random random(5);
  nunatak::Trainer trainer(config);
  std::vector<float> images(pixels);
  const std::vector<std::int64_t> labels = {3, 9};
  random.uniform(0, 1, images.data(), pixels);
  TRUE(status_of([&] { trainer.forward(); }) == NUNATAK_NO_WEIGHTS);
  trainer.draw_weights(random);
  trainer.set_sgd(nunatak::sgd(0.01f, 0.9f));
  const std::vector<unsigned char> before = trainer.save();

  trainer.set_images(images);
  trainer.set_labels(labels);
  const float loss = trainer.step();
  TRUE(loss > 0 && trainer.loss() == loss);
  TRUE(trainer.predictions(batch * classes).size() == batch * classes);
  TRUE(trainer.momentum("fc.bias").size() == classes);
  TRUE(trainer.shape("conv1.weight").rank == 4 && trainer.batches("bn1.num_batches_tracked") == 1);
  TRUE(trainer.tensor_names().front() == "conv1.weight");

  try {
    trainer.predictions(3);
    TRUE(false);
  } catch (const nunatak::Error &e) {
    TRUE(e.status() == NUNATAK_WRONG_LENGTH && e.has_numbers() && e.expected() == 20 && e.got() == 3);
  }

  /* The same from the same state, in memory of the caller's, moved about. */
  std::vector<unsigned char> memory(nunatak::required_bytes(config));
  nunatak::Trainer made(config, memory.data(), memory.size());
  nunatak::Trainer second(std::move(made));
  second.load(before.data(), before.size());
  second.set_sgd(nunatak::sgd(0.01f, 0.9f));
  std::size_t told = 0;
  second.on_progress([&](std::size_t done, std::size_t) { return (told = done) > 0; });
  second.set_images(images);
  second.set_labels(labels);
  TRUE(second.step() == loss && told > 10);
  TRUE(second.save() == trainer.save());

  /* A stop, and an exception of the callback's: nothing has changed. */
  const std::vector<unsigned char> now = second.save();
  second.on_progress([](std::size_t done, std::size_t) { return done < 3; });
  second.set_images(images);
  second.set_labels(labels);
  TRUE(status_of([&] { second.step(); }) == NUNATAK_STOPPED);
  second.on_progress([](std::size_t done, std::size_t) -> bool {
    if (done == 4) throw Own();
    return true;
  });
  second.set_images(images);
  second.set_labels(labels);
  bool caught = false;
  try {
    second.step();
  } catch (const Own &) {
    caught = true;
  }
  TRUE(caught && second.save() == now);
  second.on_progress(nullptr);
  second.set_images(images);
  second.set_labels(labels);
  TRUE(second.step() > 0);

  /* Released: the memory serves another. */
  TRUE(status_of([&] { nunatak::Trainer(config, memory.data(), memory.size()); }) == NUNATAK_MEMORY_IN_USE);
  second = nunatak::Trainer(config);
  nunatak::Trainer third(config, memory.data(), memory.size());

  nunatak::Schedule schedule = nunatak::schedule(NUNATAK_SCHEDULE_STEP);
  schedule.size = 2;
  TRUE(nunatak::factor(schedule, 2) == 0.1f);
  TRUE(nunatak::plan_text(config).find("conv") != std::string::npos);
  const std::vector<unsigned char> program = nunatak::program(config);
  TRUE(nunatak_program_check(program.data(), program.size()) == NUNATAK_OK);
  {
    nunatak::Config more = config;
    more.recipe.classes = classes + 1;
    nunatak::Trainer grows(config, nunatak::required_bytes(more));
    grows.load(before.data(), before.size());
    nunatak::Random random(3);
    grows.add_class(more, random);
    const std::vector<unsigned char> grown = grows.save();
    TRUE(nunatak::recipe_of_file(grown.data(), grown.size()).classes == classes + 1);
  }
  {
    nunatak::Threads threads(2);
    config.threads = 2;
    nunatak::Trainer two(config);
    two.load(before.data(), before.size());
    two.set_sgd(nunatak::sgd(0.01f, 0.9f));
    two.set_images(images);
    two.set_labels(labels);
    TRUE(two.step() == loss);
  }
  TRUE(status_of([] { nunatak::Threads(0); }) == NUNATAK_BAD_CONFIG);
  TRUE(nunatak::recipe_of_file(before.data(), before.size()).classes == classes);
  std::printf("%d failures\n", failures);
  return failures != 0;
}
