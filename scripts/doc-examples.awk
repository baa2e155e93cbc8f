# Reads the fences of rustdoc, each on a line. Succeeds when one of them opens an example that is a test: with no language, or Rust's.
{
    inside = !inside
    language = $0
    sub(/^[^`]*```/, "", language)
    if (inside && language ~ /^(rust|no_run|should_panic)?[ \t]*$/) found = 1
}
END { exit !found }
