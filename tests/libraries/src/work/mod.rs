//! What a person would write with each library, without a word about fibers.

pub mod postgres;

pub mod redis;

pub mod http;

pub mod sqlite;

pub mod files;
