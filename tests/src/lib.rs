//! nunatak: what several test files share.
