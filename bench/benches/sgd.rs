//! The update of parameters. See `nunatak_bench::cases::sgd`.

fn main() {
    nunatak_bench::rates::bench(nunatak_bench::cases::sgd::cases);
}
