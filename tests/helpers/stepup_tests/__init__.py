"""What tests share: a clock that is set by hand, and stores that are made for one test."""
