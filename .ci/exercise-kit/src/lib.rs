//! The classroom exercises: [`Lab`], on which their programs stand, and [`check`], which runs a
//! program, sees what it does, and names what is wrong.
//!
//! A program tells its [`Lab`] what it does, and the checker hears it over a socket on which the
//! kernel says which process speaks. What a program prints proves nothing. Nor is the checker a
//! lock: who wants to lie to it calls the lab with made-up numbers, and whoever marks an exercise
//! reads the file.

pub mod check;
mod lab;
mod proc;

pub use lab::Lab;
