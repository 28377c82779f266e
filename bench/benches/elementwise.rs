//! ResNet18's relus and additions. See `nunatak_bench::cases::elementwise`.

fn main() {
    nunatak_bench::rates::bench(nunatak_bench::cases::elementwise::cases);
}
