"""``python -m coursework`` is ``course``, where no script was installed or ``make`` is absent."""

from coursework.cli import main

if __name__ == "__main__":
    main()
