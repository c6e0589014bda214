from eigencode.plots.anomalies import plot_reasons as plot_reasons
from eigencode.plots.models import plot_codes as plot_codes
from eigencode.plots.models import plot_history as plot_history
from eigencode.plots.models import plot_reconstructions as plot_reconstructions
from eigencode.plots.models import plot_sizes as plot_sizes
from eigencode.plots.searches import plot_search as plot_search
