//! ResNet18's convolutions: every pass, algorithm and level. See `nunatak_bench::cases::conv2d`.

fn main() {
    nunatak_bench::rates::bench(nunatak_bench::cases::conv2d::cases);
}
