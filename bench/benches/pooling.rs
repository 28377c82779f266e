//! ResNet18's max pooling and its mean over the last plane. See `nunatak_bench::cases::pooling`.

fn main() {
    nunatak_bench::rates::bench(nunatak_bench::cases::pooling::cases);
}
