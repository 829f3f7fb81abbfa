// ClusterChecks: the checks before a member begins or joins, and the ids it takes over (behaviour.md §1.3). Pure but for the
// resolver that is passed in. Messages are etcd's: wrappers match them.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Core.Membership;
using Cairn.Core.Server;

namespace Cairn.Net.Bootstrap;

/// <summary>A cluster as one of its members describes it.</summary>
/// <param name="ClusterId">From the header of the answer.</param>
/// <param name="Members">Never empty.</param>
internal sealed record RemoteCluster(ulong ClusterId, IReadOnlyList<ClusterMember> Members);

/// <summary>Versions a running member reports.</summary>
/// <param name="Server">Its own.</param>
/// <param name="Cluster">The cluster's.</param>
internal readonly record struct RemoteVersions(string Server, string Cluster);

/// <summary>Checks with etcd's answers.</summary>
internal static class ClusterChecks
{
    /// <summary>Own name in the list, no URL twice, own URLs as advertised. Returns what is wrong, or null.</summary>
    public static async ValueTask<string?> CheckNewAsync(
        MemberOptions options, NameResolver resolver, CancellationToken deadline)
    {
        if (CheckName(options, out IReadOnlyList<string> own) is { } noName)
        {
            return noName;
        }

        return await CheckAdvertisedAsync(options, own, resolver, deadline) ?? CheckTwice(options);
    }

    /// <summary>The checks of a member that joins: the same without comparing its URLs.</summary>
    public static string? CheckJoin(MemberOptions options) => CheckName(options, out _) ?? CheckTwice(options);

    /// <summary>
    /// Gives every member of the own list the id it has in the running cluster. Both must name the same members.
    /// </summary>
    /// <param name="options">The own list and name.</param>
    /// <param name="remote">The running cluster.</param>
    /// <param name="resolver">For URLs that differ as text.</param>
    /// <param name="deadline">For the resolver.</param>
    /// <returns>The cluster to join, or what is wrong.</returns>
    public static async ValueTask<(JoinedCluster? Joined, string Error)> MatchAsync(
        MemberOptions options, RemoteCluster remote, NameResolver resolver, CancellationToken deadline)
    {
        if (remote.Members.Count != options.InitialCluster.Count)
        {
            return (null, Invalid(remote, "member count is unequal"));
        }

        // Both in the order of their URLs, as etcd goes through them: it shows in the message.
        List<ClusterMember> known = [.. remote.Members];
        known.Sort(static (a, b) => string.CompareOrdinal(string.Join(',', a.PeerUrls), string.Join(',', b.PeerUrls)));
        List<InitialMember> given = [.. options.InitialCluster];
        given.Sort(static (a, b) => string.CompareOrdinal(string.Join(',', a.PeerUrls), string.Join(',', b.PeerUrls)));
        var members = new ClusterMember[known.Count];
        ulong local = 0;
        for (int i = 0; i < members.Length; i++)
        {
            string? differs = "";
            int match = -1;
            while (differs is not null && ++match < given.Count)
            {
                differs = await PeerUrls.CompareAsync(known[i].PeerUrls, given[match].PeerUrls, resolver, deadline);
            }

            if (differs is not null)
            {
                return (null, Invalid(remote, "PeerURLs: no match found for existing member ("
                    + MemberIds.ToText(known[i].Id) + ", " + PeerUrls.Show(known[i].PeerUrls) + "), last resolver error ("
                    + differs + ")"));
            }

            members[i] = known[i] with { Name = given[match].Name };
            local = given[match].Name == options.Name ? known[i].Id : local;
        }

        Array.Sort(members, static (a, b) => a.Id.CompareTo(b.Id));
        return local == 0
            ? (null, Invalid(remote, "no member has the peer URLs of \"" + options.Name + "\""))
            : (new JoinedCluster(remote.ClusterId, local, members), "");
    }

    /// <summary>
    /// Whether a server may join members of these versions: at least one answered with a cluster version this server can
    /// live at, and none with one it cannot.
    /// </summary>
    /// <param name="serverVersion">This server's.</param>
    /// <param name="answers">Of those members that answered.</param>
    /// <param name="isDowngrading">A downgrade is under way: then exactly the next minor fits.</param>
    public static bool AreCompatible(string serverVersion, IReadOnlyList<RemoteVersions> answers, bool isDowngrading)
    {
        _ = SemanticVersion.TryParse(serverVersion, out SemanticVersion own);
        bool any = false;
        foreach (RemoteVersions answer in answers)
        {
            if (answer.Cluster is "" or "not_decided" || !SemanticVersion.TryParse(answer.Cluster, out SemanticVersion cluster))
            {
                continue;
            }

            bool fits = isDowngrading
                ? cluster.Major == own.Major && cluster.Minor == own.Minor + 1
                : cluster.Major == own.Major && cluster.Minor <= own.Minor;
            if (!fits)
            {
                return false;
            }

            any = true;
        }

        return any;
    }

    /// <summary>The refusal when a lost data directory would begin anew as a member that has been here; null when it is new.</summary>
    public static string? CheckNotBootstrapped(ulong localId, RemoteCluster? remote)
    {
        foreach (ClusterMember member in remote?.Members ?? [])
        {
            if (member.Id == localId && member.ClientUrls.Count > 0)
            {
                return "member " + MemberIds.ToText(member.Id) + " has already been bootstrapped";
            }
        }

        return null;
    }

    private static string? CheckName(MemberOptions options, out IReadOnlyList<string> own)
    {
        own = [];
        foreach (InitialMember member in options.InitialCluster)
        {
            if (member.Name == options.Name)
            {
                own = member.PeerUrls;
                return null;
            }
        }

        return "couldn't find local name \"" + options.Name + "\" in the initial cluster configuration";
    }

    private static async ValueTask<string?> CheckAdvertisedAsync(
        MemberOptions options, IReadOnlyList<string> own, NameResolver resolver, CancellationToken deadline)
    {
        List<string> given = [.. own];
        List<string> advertised = [.. options.InitialAdvertisePeerUrls];
        given.Sort(StringComparer.Ordinal);
        advertised.Sort(StringComparer.Ordinal);
        string? differs = await PeerUrls.CompareAsync(advertised, given, resolver, deadline);
        if (differs is null)
        {
            return null;
        }

        List<string> missing = given.FindAll(url => !advertised.Contains(url));
        if (missing.Count != 0)
        {
            return "--initial-cluster has " + string.Join(',', missing.ConvertAll(url => options.Name + "=" + url))
                + " but missing from --initial-advertise-peer-urls=" + string.Join(',', advertised) + Reason(differs);
        }

        missing = advertised.FindAll(url => !given.Contains(url));
        return "--initial-advertise-peer-urls has " + string.Join(',', missing) + " but missing from --initial-cluster="
            + string.Join(',', given.ConvertAll(url => options.Name + "=" + url)) + Reason(differs);
    }

    private static string Reason(string differs) => " (" + differs + ")";

    private static string? CheckTwice(MemberOptions options)
    {
        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach (InitialMember member in options.InitialCluster)
        {
            foreach (string url in member.PeerUrls)
            {
                if (!seen.Add(url))
                {
                    return "initial cluster " + Text(options.InitialCluster) + " has duplicate url";
                }
            }
        }

        return null;
    }

    private static string Text(IReadOnlyList<InitialMember> cluster)
    {
        var pairs = new List<string>();
        foreach (InitialMember member in cluster)
        {
            foreach (string url in member.PeerUrls)
            {
                pairs.Add(member.Name + "=" + url);
            }
        }

        pairs.Sort(StringComparer.Ordinal);
        return string.Join(',', pairs);
    }

    // etcd prints its structures as Go does.
    private static string Invalid(RemoteCluster remote, string reason)
    {
        var text = new StringBuilder("error validating peerURLs {ClusterID:");
        text.Append(MemberIds.ToText(remote.ClusterId)).Append(" Members:[");
        for (int i = 0; i < remote.Members.Count; i++)
        {
            ClusterMember member = remote.Members[i];
            text.Append(i == 0 ? "" : " ").Append("&{ID:").Append(MemberIds.ToText(member.Id))
                .Append(" RaftAttributes:{PeerURLs:").Append(PeerUrls.Show(member.PeerUrls))
                .Append(" IsLearner:").Append(member.IsLearner ? "true" : "false")
                .Append("} Attributes:{Name:").Append(member.Name)
                .Append(CultureInfo.InvariantCulture, $" ClientURLs:{PeerUrls.Show(member.ClientUrls)}}}}}");
        }

        return text.Append("] RemovedMemberIDs:[]}: ").Append(reason).ToString();
    }
}
