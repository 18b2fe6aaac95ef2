mod wan;
fn main() {}
