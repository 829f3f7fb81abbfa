// InitialMembership: who a new cluster consists of, from --initial-cluster (behaviour.md §1.3). Pure.
//
// Everything is checked before a file is made. Addresses are compared as text; whoever resolved names before says so in
// the options, and the comparison is his.
using System;
using System.Collections.Generic;
using Cairn.Core.Membership;
using Cairn.Core.Protocol;

namespace Cairn.Core.Server;

/// <summary>The members of a new cluster, ids ascending, and which one is this.</summary>
internal sealed class InitialMembership
{
    private InitialMembership(ClusterMember[] members, ulong localId, ulong clusterId)
    {
        Members = members;
        LocalId = localId;
        ClusterId = clusterId;
    }

    internal IReadOnlyList<ClusterMember> Members { get; }

    internal ulong LocalId { get; }

    internal ulong ClusterId { get; }

    /// <exception cref="MemberStartException">The options contradict each other.</exception>
    internal static InitialMembership From(MemberOptions options)
    {
        Dictionary<string, List<string>> urlsByName = new(StringComparer.Ordinal);
        List<string> names = [];
        HashSet<string> seen = new(StringComparer.Ordinal);
        foreach (InitialMember member in options.InitialCluster)
        {
            if (!urlsByName.TryGetValue(member.Name, out List<string>? urls))
            {
                urlsByName.Add(member.Name, urls = []);
                names.Add(member.Name);
            }

            foreach (string url in member.PeerUrls)
            {
                if (!seen.Add(url))
                {
                    throw new MemberStartException($"initial cluster {Text(options.InitialCluster)} has duplicate url");
                }

                urls.Add(url);
            }
        }

        if (!urlsByName.TryGetValue(options.Name, out List<string>? own))
        {
            throw new MemberStartException($"couldn't find local name \"{options.Name}\" in the initial cluster configuration");
        }

        if (!options.IsInitialClusterChecked)
        {
            CompareWithAdvertised(own, options);
        }

        return Build(names, urlsByName, options);
    }

    /// <summary>The bytes of the ConfChange entry that adds a member at bootstrap.</summary>
    internal static byte[] ConfChangeOf(ClusterMember member)
    {
        byte[] context = member.ToJson();
        var change = new ConfChange
        {
            Id = 0,
            Type = ConfChangeType.AddNode,
            NodeId = member.Id,
            Context = context,
        };
        byte[] bytes = new byte[change.Size];
        var writer = new Base.ProtoWriter(bytes);
        change.Write(ref writer);
        return bytes;
    }

    /// <summary>NAME=URL pairs as etcd prints them: sorted by name, then by URL.</summary>
    internal static string Text(IReadOnlyList<InitialMember> cluster)
    {
        List<string> pairs = [];
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

    private static void CompareWithAdvertised(List<string> own, MemberOptions options)
    {
        List<string> given = [.. own];
        List<string> advertised = [.. options.InitialAdvertisePeerUrls];
        given.Sort(StringComparer.Ordinal);
        advertised.Sort(StringComparer.Ordinal);
        // etcd's words: what is in one list and not in the other, then the first pair that differs.
        string differing = "";
        for (int i = 0; i < Math.Min(given.Count, advertised.Count) && differing.Length == 0; i++)
        {
            differing = given[i] == advertised[i] ? "" : $" (resolved urls: \"{advertised[i]}\" != \"{given[i]}\")";
        }

        List<string> missing = given.FindAll(url => !advertised.Contains(url));
        if (missing.Count != 0)
        {
            throw new MemberStartException(
                $"--initial-cluster has {string.Join(',', missing.ConvertAll(url => options.Name + "=" + url))} but missing from "
                + $"--initial-advertise-peer-urls={string.Join(',', advertised)}{differing}");
        }

        missing = advertised.FindAll(url => !given.Contains(url));
        if (missing.Count != 0)
        {
            throw new MemberStartException(
                $"--initial-advertise-peer-urls has {string.Join(',', missing)} but missing from "
                + $"--initial-cluster={string.Join(',', given.ConvertAll(url => options.Name + "=" + url))}{differing}");
        }
    }

    private static InitialMembership Build(
        List<string> names, Dictionary<string, List<string>> urlsByName, MemberOptions options)
    {
        var members = new ClusterMember[names.Count];
        var ids = new ulong[names.Count];
        ulong local = 0;
        for (int i = 0; i < members.Length; i++)
        {
            List<string> urls = urlsByName[names[i]];
            urls.Sort(StringComparer.Ordinal);
            ids[i] = MemberIds.OfBootstrapMember(urls, options.InitialClusterToken);
            members[i] = new ClusterMember { Id = ids[i], Name = names[i], PeerUrls = urls };
            if (names[i] == options.Name)
            {
                local = ids[i];
            }
        }

        Array.Sort(ids, members);
        return new InitialMembership(members, local, MemberIds.OfCluster(ids));
    }
}
