#!/bin/sh
# trillium-http 1.8 uses two standard-library functions that the stable toolchain does not have yet.
# This enables them for that one crate and passes every other invocation through untouched.
# Drop it (and .cargo/config.toml) once `uint_bit_width` and `result_option_map_or_default` are stable.
compiler="$1"
shift
case " $* " in
*" --crate-name trillium_http "*)
    RUSTC_BOOTSTRAP=trillium_http exec "$compiler" "$@" \
        "-Zcrate-attr=feature(uint_bit_width)" \
        "-Zcrate-attr=feature(result_option_map_or_default)"
    ;;
esac
exec "$compiler" "$@"
