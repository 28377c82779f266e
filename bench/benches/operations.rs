//! Operations that ResNet18 has not. See `nunatak_bench::cases::operations`.

fn main() {
    nunatak_bench::rates::bench(nunatak_bench::cases::operations::cases);
}
