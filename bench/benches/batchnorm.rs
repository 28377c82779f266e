//! ResNet18's batch normalisations. See `nunatak_bench::cases::batchnorm`.

fn main() {
    nunatak_bench::rates::bench(nunatak_bench::cases::batchnorm::cases);
}
