// Bootstrapper: carries the decision out: asks DNS, a registry or the members of a running cluster, checks, and fills the
// member's options, all before the data directory is touched. Runs once, on the thread that opens the host; may take long.
using System;
using System.Collections.Generic;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Server;
using Cairn.Net.Host;
using Cairn.Net.Tls;
using Cairn.Wal;
using Microsoft.Extensions.Logging;

namespace Cairn.Net.Bootstrap;

/// <summary>From what was asked for to options a member can open with.</summary>
internal sealed partial class Bootstrapper(HostOptions options, TlsEndpoint tls, IFileSystem files, ILogger log)
{
    private static readonly TimeSpan s_resolving = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan s_asking = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan s_glance = TimeSpan.FromSeconds(1);

    /// <summary>Fills the options.</summary>
    /// <param name="cancelled">Ends a wait for others.</param>
    /// <exception cref="MemberStartException">It must not begin; in etcd's words.</exception>
    public async Task<MemberOptions> RunAsync(CancellationToken cancelled)
    {
        MemberOptions member = options.Member;
        BootstrapDecision decision = BootstrapDecision.Of(new BootstrapFacts(
            HasWal(member), member.InitialClusterState, member.InitialCluster.Count != 0,
            options.Discovery.SrvDomain.Length != 0, options.Discovery.Token.Length != 0, member.ForceNewCluster));
        if (decision.Warning.Length != 0)
        {
            Warn(log, decision.Warning);
        }

        switch (decision.Kind)
        {
            case BootstrapKind.Restart:
            case BootstrapKind.RestartAlone:
                return member;
            case BootstrapKind.Refuse:
                throw new MemberStartException(decision.Refusal);
            case BootstrapKind.Join:
                return await JoinAsync(await NamedAsync(member, cancelled), cancelled);
            case BootstrapKind.NewFromToken:
                return await RegisterAsync(member, cancelled);
            default:
                return await BeginAsync(await NamedAsync(member, cancelled), cancelled);
        }
    }

    private bool HasWal(MemberOptions member)
    {
        string path = string.IsNullOrEmpty(member.WalDir) ? Path.Combine(member.DataDir, "member", "wal") : member.WalDir;
        return WalDirectory.Exists(files, path);
    }

    // With DNS asked, if it was to be.
    private async Task<MemberOptions> NamedAsync(MemberOptions member, CancellationToken cancelled)
    {
        if (options.Discovery.SrvDomain.Length == 0)
        {
            return member;
        }

        List<SrvTarget> targets = await SrvDiscovery.QueryAsync(options.Discovery, cancelled);
        return member with
        {
            InitialCluster = await SrvDiscovery.NameAsync(member, targets, PeerUrls.ResolveAsync, cancelled),
        };
    }

    private async Task<MemberOptions> BeginAsync(MemberOptions member, CancellationToken cancelled)
    {
        await CheckAsync(member, cancelled);
        InitialMember own = Own(member);
        ulong id = MemberIds.OfBootstrapMember(own.PeerUrls, member.InitialClusterToken);
        if (member.InitialCluster.Count > 1)
        {
            using var probe = new ClusterProbe(tls, static (_, _) => { });
            RemoteCluster? running = await probe.FindClusterAsync(UrlsOfOthers(member), s_glance);
            if (ClusterChecks.CheckNotBootstrapped(id, running) is { } refusal)
            {
                throw new MemberStartException(refusal);
            }
        }

        return member with { IsInitialClusterChecked = true };
    }

    private async Task<MemberOptions> RegisterAsync(MemberOptions member, CancellationToken cancelled)
    {
        // Alone in its list, the member passes the same checks before it registers.
        List<string> urls = [.. member.InitialAdvertisePeerUrls];
        urls.Sort(StringComparer.Ordinal);
        ulong id = MemberIds.OfBootstrapMember(urls, options.Discovery.Token);
        using var registry = new RegistryClient(options.Discovery);
        var discovery = new TokenDiscovery(registry, options.Discovery.Token, line => Say(log, line), Task.Delay);
        string config = string.Join(',', urls.ConvertAll(url => member.Name + "=" + url));
        List<InitialMember> cluster = await discovery.JoinAsync(id, config, cancelled);
        member = member with { InitialCluster = cluster, InitialClusterToken = options.Discovery.Token };
        await CheckAsync(member, cancelled);
        return member with { IsInitialClusterChecked = true };
    }

    private async Task<MemberOptions> JoinAsync(MemberOptions member, CancellationToken cancelled)
    {
        if (ClusterChecks.CheckJoin(member) is { } refusal)
        {
            throw new MemberStartException(refusal);
        }

        using var probe = new ClusterProbe(tls, (address, error) => Unanswered(log, address, error));
        RemoteCluster remote = await probe.FindClusterAsync(UrlsOfOthers(member), s_asking)
            ?? throw new MemberStartException(
                "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs");
        using var resolving = CancellationTokenSource.CreateLinkedTokenSource(cancelled);
        resolving.CancelAfter(s_resolving);
        (JoinedCluster? joined, string error) = await ClusterChecks.MatchAsync(
            member, remote, PeerUrls.ResolveAsync, resolving.Token);
        if (joined is null)
        {
            throw new MemberStartException(error);
        }

        var answers = new List<RemoteVersions>();
        bool downgrading = false;
        foreach (ClusterMember other in joined.Members)
        {
            if (other.Id == joined.LocalId || other.PeerUrls.Count == 0)
            {
                continue;
            }

            if (await probe.VersionsAsync(other.PeerUrls[0], s_asking) is { } versions)
            {
                answers.Add(versions);
                downgrading |= await probe.IsDowngradingAsync(other.PeerUrls[0], s_asking);
            }
        }

        if (!ClusterChecks.AreCompatible(member.ServerVersion, answers, downgrading))
        {
            throw new MemberStartException("incompatible with current running cluster");
        }

        int learners = 0;
        foreach (ClusterMember other in joined.Members)
        {
            learners += other.IsLearner ? 1 : 0;
        }

        return learners > member.MaxLearners
            ? throw new MemberStartException("etcdserver: too many learner members in cluster")
            : member with { Joined = joined, IsInitialClusterChecked = true };
    }

    private static async Task CheckAsync(MemberOptions member, CancellationToken cancelled)
    {
        using var resolving = CancellationTokenSource.CreateLinkedTokenSource(cancelled);
        resolving.CancelAfter(s_resolving);
        if (await ClusterChecks.CheckNewAsync(member, PeerUrls.ResolveAsync, resolving.Token) is { } refusal)
        {
            throw new MemberStartException(refusal);
        }
    }

    private static InitialMember Own(MemberOptions member)
    {
        foreach (InitialMember candidate in member.InitialCluster)
        {
            if (candidate.Name == member.Name)
            {
                return candidate;
            }
        }

        throw new InvalidOperationException("the own name was checked");
    }

    private static List<string> UrlsOfOthers(MemberOptions member)
    {
        var urls = new List<string>();
        foreach (InitialMember candidate in member.InitialCluster)
        {
            if (candidate.Name != member.Name)
            {
                urls.AddRange(candidate.PeerUrls);
            }
        }

        return urls;
    }

    [LoggerMessage(1, LogLevel.Warning, "{text}")]
    private static partial void Warn(ILogger log, string text);

    [LoggerMessage(2, LogLevel.Information, "{text}")]
    private static partial void Say(ILogger log, string text);

    [LoggerMessage(3, LogLevel.Warning, "failed to get cluster response")]
    private static partial void Unanswered(ILogger log, string address, string error);
}
