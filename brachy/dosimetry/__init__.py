"""From a source model to dose, dose-volume histogram and biologically effective dose."""
