//! Whole steps of ResNet18: training, the head alone, inference, and training with more and more frozen. See `nunatak_bench::cases::step`.

fn main() {
    nunatak_bench::rates::bench(nunatak_bench::cases::step::cases);
}
