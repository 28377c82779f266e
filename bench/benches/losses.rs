//! Losses and the sums under them. See `nunatak_bench::cases::losses`.

fn main() {
    nunatak_bench::rates::bench(nunatak_bench::cases::losses::cases);
}
