// FeatureState: one of etcd's feature gates, for the metrics page.
namespace Cairn.Net.Host;

/// <summary>A gate.</summary>
/// <param name="Name">Such as <c>LeaseCheckpoint</c>.</param>
/// <param name="Stage"><c>ALPHA</c>, <c>BETA</c>, or empty when it has become a matter of course.</param>
/// <param name="IsEnabled">Whether it is on.</param>
public sealed record FeatureState(string Name, string Stage, bool IsEnabled);
