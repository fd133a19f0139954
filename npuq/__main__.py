"""`python -m npuq`: the same program as the `npuq` console script; children are started this way."""

from npuq.entry import main

if __name__ == "__main__":
    main()
