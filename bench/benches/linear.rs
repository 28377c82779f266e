//! ResNet18's last layer. See `nunatak_bench::cases::linear`.

fn main() {
    nunatak_bench::rates::bench(nunatak_bench::cases::linear::cases);
}
